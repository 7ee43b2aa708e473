"""The files of an embedded release bundle, loaded: tokenizer and onnxruntime session."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from triage.errors import EngineError, ReleaseError
from triage.release import Release

MODEL_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"
INPUTS = {"input_ids", "position_ids", "mask", "past", "select", "vocabulary"}


def load_tokenizer(release: Release) -> Tokenizer:
    """The tokenizer of a bundle.

    Raises:
        ReleaseError: the bundle lacks a file that an embedded release consists of.
        EngineError: the tokenizer cannot be loaded.
    """
    if missing := [name for name in (MODEL_FILE, TOKENIZER_FILE) if name not in release.manifest.files]:
        raise ReleaseError(f"the release in {release.folder} has no {' and no '.join(missing)}", "name an embedded release")
    try:
        return Tokenizer.from_file(str(release.path(TOKENIZER_FILE)))
    except Exception as error:  # tokenizers raises bare Exception
        raise EngineError(f"{release.path(TOKENIZER_FILE)} is no tokenizer", "restore the bundle from where it was made") from error


def load_session(path: Path, threads: int | None) -> Any:
    """An onnxruntime session on a model that `training.export_onnx` wrote; `threads` None takes up to four cores.

    Raises:
        EngineError: onnxruntime cannot load it, or its inputs are those of another version.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or min(4, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own types for a file it cannot read
        raise EngineError(f"onnxruntime cannot load {path}: {type(error).__name__}", "install the package again, or run `triage doctor`") from error
    if (inputs := {item.name for item in session.get_inputs()}) != INPUTS:
        raise EngineError(f"{path} was exported by another version: it takes {', '.join(sorted(inputs))}", "assemble the release again")
    return session
