"""The small statistics of the eval room, against numbers computed by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eval.accuracy import MESSAGES_PATH
from eval.bench_embedded import percentile
from eval.intervals import wilson_interval
from tests.conftest import ROOT


def test_wilsons_interval_equals_the_numbers_of_the_formula() -> None:
    # 8 of 20 at z = 1.96: centre (0.4 + 0.09604) / 1.19208, half width 1.96 * sqrt(0.012 + 0.002401) / 1.19208
    assert wilson_interval(8, 20) == pytest.approx((0.21880, 0.61342), abs=1e-4)
    assert wilson_interval(0, 10)[0] == 0
    assert wilson_interval(10, 10)[1] == pytest.approx(1)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no messages"):
        wilson_interval(0, 0)
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.5)


def test_percentiles_are_interpolated() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([1.0, 2.0, 3.0], 1.0) == 3.0
    assert percentile([7.0], 0.95) == 7.0


def test_the_blind_messages_are_twenty_and_are_scored_field_by_field(tmp_path: Path) -> None:
    lines = MESSAGES_PATH.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 20
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(lines[:3]) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "eval.accuracy", "--messages", str(few)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for line in lines[:3]:
        assert json.loads(line)["id"] in done.stdout
    assert done.stdout.count(" of 3 ") == 5


def test_the_quick_look_refuses_the_test_split(tmp_path: Path) -> None:
    """It would be a look that the ledger does not know of."""
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"id": "a", "split": "test", "message": "x"}) + "\n")
    done = subprocess.run([sys.executable, "-m", "eval.accuracy", "--messages", str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "notes no look at the test split" in done.stderr
