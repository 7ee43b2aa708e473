"""Release bundles, run records, and the writing of files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.test_core_automaton import _own_taxonomy
from triage.engines.embedded import load_embedded_engine
from triage.errors import EngineError, ReleaseError, RunError
from triage.paths import EMBEDDED_RELEASE_DIR, file_digest, write_bytes_atomically
from triage.prompt import prompt_id
from triage.release import load_release, verify_release, write_manifest
from triage.run import RunClock, code_version, read_run_record, write_run_record
from triage.taxonomy import Taxonomy


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    shutil.copytree(EMBEDDED_RELEASE_DIR, folder)
    return folder


def test_the_embedded_release_verifies_and_belongs_to_the_default_taxonomy(taxonomy: Taxonomy) -> None:
    manifest = load_release(EMBEDDED_RELEASE_DIR, taxonomy).manifest
    assert manifest.prompt_id == prompt_id("tuned", taxonomy)
    assert manifest.tokenizer == file_digest(EMBEDDED_RELEASE_DIR / "tokenizer.json")


@pytest.mark.parametrize("name", sorted(path.name for path in EMBEDDED_RELEASE_DIR.iterdir() if path.name != "release.json"))
def test_one_flipped_bit_in_any_file_is_refused_by_name(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(ReleaseError, match=f"{name} was changed"):
        verify_release(bundle)


def test_an_edited_manifest_is_refused(bundle: Path) -> None:
    path = bundle / "release.json"
    text = path.read_text()
    for before, after in (('"text_budget": 384', '"text_budget": 284'), ('"extracted"', '"written"'), ("embedded-2026", "embedded-2027")):
        assert before in text
        path.write_text(text.replace(before, after))
        with pytest.raises(ReleaseError, match="was edited"):
            verify_release(bundle)


def test_a_file_in_a_subfolder_is_refused(bundle: Path) -> None:
    (bundle / "sub").mkdir()
    (bundle / "sub" / "file").write_bytes(b"x")
    with pytest.raises(ReleaseError, match="sub/file is not listed"):
        verify_release(bundle)


def test_a_release_for_another_prompt_is_refused(bundle: Path, taxonomy: Taxonomy) -> None:
    fields = json.loads((bundle / "release.json").read_text()) | {"prompt_id": "0" * 12}
    write_manifest(bundle, {key: value for key, value in fields.items() if key not in {"files", "seal"}})
    with pytest.raises(ReleaseError, match="was made for the prompt 000000000000"):
        load_release(bundle, taxonomy)


def test_a_file_added_or_missing_is_refused_by_name(bundle: Path) -> None:
    (bundle / "extra.bin").write_bytes(b"x")
    (bundle / "tokenizer.json").unlink()
    with pytest.raises(ReleaseError, match=r"tokenizer\.json is missing; extra\.bin is not listed"):
        verify_release(bundle)


def test_a_damaged_manifest_names_its_fields(bundle: Path) -> None:
    manifest = json.loads((bundle / "release.json").read_text())
    (bundle / "release.json").write_text(json.dumps(manifest | {"taxonomy": "short"}))
    with pytest.raises(ReleaseError, match="is damaged: taxonomy cannot be read"):
        verify_release(bundle)
    (bundle / "release.json").write_text("{")
    with pytest.raises(ReleaseError, match="is damaged"):
        verify_release(bundle)


def test_another_taxonomy_is_refused_with_both_digests(taxonomy: Taxonomy) -> None:
    own = _own_taxonomy("vpn", "laptop")
    with pytest.raises(ReleaseError, match=f"{taxonomy.digest[:12]}.*{own.digest[:12]}"):
        load_release(EMBEDDED_RELEASE_DIR, own)


def test_a_model_that_is_no_model_is_an_engine_error(bundle: Path, taxonomy: Taxonomy) -> None:
    (bundle / "model.onnx").write_bytes(b"not a model")
    fields = json.loads((bundle / "release.json").read_text())
    write_manifest(bundle, {key: value for key, value in fields.items() if key not in {"files", "seal"}})
    with pytest.raises(EngineError, match=r"cannot load .*model\.onnx"):
        load_embedded_engine(taxonomy, bundle)


def test_a_run_record_holds_digests_and_is_written_last(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a finished run"):
        read_run_record(tmp_path)
    (tmp_path / "weights").write_bytes(b"w")
    write_run_record(tmp_path, kind="test", clock=RunClock(), config={"seed": 1}, inputs={}, outputs=["weights"], metrics={"loss": 0.5})
    record = read_run_record(tmp_path)
    assert record.outputs == {"weights": file_digest(tmp_path / "weights")}
    assert record.code_version == code_version()
    with pytest.raises(RunError, match="did not write: none"):
        write_run_record(tmp_path, kind="test", clock=RunClock(), config={}, inputs={}, outputs=["none"], metrics={})


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_bytes_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
