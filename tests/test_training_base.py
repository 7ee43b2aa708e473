"""The bundle of the untuned base. Needs torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT
from triage.engines.chatml import render_chatml
from triage.engines.embedded import PROMPT_TOKENS, load_embedded_engine
from triage.errors import ReleaseError, RunError
from triage.prompt import build_prompt, prompt_id
from triage.release import load_release
from triage.taxonomy import load_taxonomy
from triage.ticket import Message

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]
pytest.importorskip("torch")
BASE = ROOT / "training" / "embedded_base" / "model"


def test_the_base_becomes_a_bundle_whose_longest_prompt_fits_its_context(tmp_path: Path) -> None:
    from training.release_base import assemble_base

    taxonomy = load_taxonomy()
    assemble_base(BASE, tmp_path / "base", taxonomy)
    manifest = load_release(tmp_path / "base", taxonomy).manifest
    assert (manifest.prompt_kind, manifest.prompt_id) == ("zero_shot", prompt_id("zero_shot", taxonomy))
    engine = load_embedded_engine(taxonomy, tmp_path / "base")
    message = Message(message="naïve 漢字 words, and more of them. " * 300)
    prompt = build_prompt(message, taxonomy, kind="zero_shot", text_budget=engine.text_budget, count_tokens=engine.count_tokens)
    assert prompt.cut
    assert engine.count_tokens(render_chatml(prompt)) <= PROMPT_TOKENS


def test_a_taxonomy_whose_instructions_leave_no_room_is_refused(tmp_path: Path) -> None:
    from training.release_base import assemble_base

    taxonomy = load_taxonomy()
    long = [entry.model_copy(update={"meaning": entry.meaning + " and so on" * 20}) for entry in taxonomy.category]
    with pytest.raises(ReleaseError, match=r"leave -?\d+ of 768 tokens for the message"):
        assemble_base(BASE, tmp_path / "base", taxonomy.model_copy(update={"category": long}))
    assert not (tmp_path / "base").exists()


def test_a_folder_that_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    from training.release_base import assemble_base

    with pytest.raises(RunError, match="not a finished run"):
        assemble_base(tmp_path, tmp_path / "base", load_taxonomy())
