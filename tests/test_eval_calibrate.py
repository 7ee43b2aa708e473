"""Calibration: temperature and floors, by hand, and on the real release."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from eval.calibrate import calibrate, fit_floor, fit_temperature
from tests.conftest import ROOT
from triage.answer import TicketAnswer
from triage.confidence import Calibration, FieldCalibration, temper
from triage.engines.embedded import EmbeddedEngine, load_embedded_engine
from triage.errors import ReleaseError
from triage.paths import EMBEDDED_RELEASE_DIR
from triage.policy import decide
from triage.prompt import build_prompt
from triage.release import MANIFEST_NAME, load_release, write_manifest
from triage.taxonomy import LABEL_FIELDS, Taxonomy
from triage.ticket import Message


def test_a_temperature_of_one_changes_nothing_and_a_higher_one_flattens() -> None:
    shares = np.array([0.8, 0.2])
    assert temper(shares, 1.0) == pytest.approx(shares)
    assert temper(shares, 2.0) == pytest.approx([2 / 3, 1 / 3])  # square roots of 0.8 and 0.2 stand as 2 to 1
    assert temper(np.array([1.0, 0.0]), 3.0).sum() == pytest.approx(1.0)


def test_a_model_that_is_right_less_often_than_it_says_gets_the_temperature_that_says_so() -> None:
    shares = np.tile([0.9, 0.1], (100, 1))
    wanted = np.array([0] * 75 + [1] * 25)
    found = fit_temperature(shares, wanted)
    assert temper(np.array([0.9, 0.1]), found)[0] == pytest.approx(0.75, abs=0.005)
    assert found == pytest.approx(2.0, abs=0.01)  # 9 to 1 becomes 3 to 1


def test_a_floor_is_the_lowest_step_that_keeps_the_risk() -> None:
    sure = np.array([0.99] * 40 + [0.6] * 4)
    wrong = np.array([True, *[False] * 39, True, True, True, False])  # 4 of 44, and 1 of the 40 surest
    assert fit_floor(sure, wrong, 0.1) == 0.0
    assert fit_floor(sure, wrong, 0.05) == 0.65
    assert fit_floor(np.array([0.9]), np.array([True]), 0.05) == 1.0
    assert fit_floor(np.array([1.0]), np.array([True]), 0.05) == 1.0
    assert fit_floor(np.array([]), np.array([], dtype=bool), 0.05) == 1.0  # nothing to tell from is no reason to trust


def test_a_label_under_its_floor_sends_the_ticket_to_a_person(taxonomy: Taxonomy, tmp_path: Path) -> None:
    fields = load_release(EMBEDDED_RELEASE_DIR, taxonomy).manifest.model_dump(exclude={"files", "seal", "calibration"})
    for path in EMBEDDED_RELEASE_DIR.iterdir():
        if path.name != MANIFEST_NAME:
            shutil.copy(path, tmp_path)
    entries = {name: FieldCalibration(temperature=5.0, floor=1.0 if name == "category" else 0.0) for name in LABEL_FIELDS}
    strict = Calibration(fields=entries, dataset="0" * 64, tickets=1)
    write_manifest(tmp_path, {**fields, "calibration": strict.model_dump()})
    engine = load_embedded_engine(taxonomy, tmp_path)
    answer = engine.answer_now(build_prompt(Message(message="How do I export my contacts?"), taxonomy), deadline_s=60)
    assert isinstance(answer, TicketAnswer)
    assert answer.flags == ("low_confidence:category",)
    decision = decide(answer, taxonomy)
    assert decision.ticket.needs_human
    assert (decision.decided_by, decision.reasons) == ("policy", ("low_confidence:category",))


def test_calibrating_seals_the_release_once_and_changes_no_label(taxonomy: Taxonomy, tmp_path: Path, embedded_engine: EmbeddedEngine) -> None:
    fields = load_release(EMBEDDED_RELEASE_DIR, taxonomy).manifest.model_dump(exclude={"files", "seal", "calibration"})
    for path in EMBEDDED_RELEASE_DIR.iterdir():
        if path.name != MANIFEST_NAME:
            shutil.copy(path, tmp_path)
    write_manifest(tmp_path, fields)
    few = tmp_path.parent / "few.jsonl"
    lines = (ROOT / "data" / "tickets" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    few.write_text("".join(lines[:40]), encoding="utf-8")
    found = calibrate(tmp_path, few, taxonomy)
    assert load_release(tmp_path, taxonomy).manifest.calibration == found
    assert found.tickets == 40
    with pytest.raises(ReleaseError, match="is calibrated already"):
        calibrate(tmp_path, few, taxonomy)
    prompt = build_prompt(Message(message="My parcel is late"), taxonomy)
    before, after = (engine.answer_now(prompt, deadline_s=60) for engine in (embedded_engine, load_embedded_engine(taxonomy, tmp_path)))
    assert isinstance(before, TicketAnswer)
    assert isinstance(after, TicketAnswer)
    assert before.ticket == after.ticket


def test_the_shipped_release_is_calibrated_on_the_calibration_split(taxonomy: Taxonomy) -> None:
    from triage.dataset import dataset_digest

    found = load_release(EMBEDDED_RELEASE_DIR, taxonomy).manifest.calibration
    assert found is not None
    assert found.dataset == dataset_digest([ROOT / "data" / "tickets" / "calibration.jsonl"])
