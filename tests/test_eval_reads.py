"""The ledger of looks at the test split. No test writes the real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eval.reads import HEAD, LEDGER_PATH, note_read
from tests.conftest import ROOT
from triage.errors import DatasetError
from triage.run import CODE_VERSION_VARIABLE

DIGEST = "abcdef0123456789" * 4


def test_a_look_at_the_test_split_is_noted_with_commit_dataset_command_and_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CODE_VERSION_VARIABLE, "0123456789abcdef0123+changes")
    ledger = tmp_path / "eval" / "TEST_READS.md"
    for purpose in ("release 0.2 | gate", "again,\nafter a bug"):
        note_read(split="test", purpose=purpose, command="triage score runs/x", dataset=DIGEST, ledger=ledger)
    content = ledger.read_text(encoding="utf-8")
    assert content.startswith(HEAD)
    first, second = content.removeprefix(HEAD).splitlines()
    assert first[2:12].count("-") == 2
    assert first.endswith(r"| 0123456789ab+changes | abcdef012345 | triage score runs/x | release 0.2 \| gate |")
    assert second.endswith("| again, after a bug |")


def test_a_look_at_another_split_is_none(tmp_path: Path) -> None:
    note_read(split="dev", purpose="", command="triage score runs/x", dataset=DIGEST, ledger=tmp_path / "ledger.md")
    assert not (tmp_path / "ledger.md").exists()


@pytest.mark.parametrize("purpose", ["", " \n"])
def test_a_look_without_a_purpose_is_refused_and_names_the_option(tmp_path: Path, purpose: str) -> None:
    with pytest.raises(DatasetError, match="purpose") as raised:
        note_read(split="test", purpose=purpose, command="triage score runs/x", dataset=DIGEST, ledger=tmp_path / "ledger.md")
    assert "--purpose" in raised.value.hint
    assert not (tmp_path / "ledger.md").exists()


def test_a_ledger_that_cannot_be_written_refuses_the_look(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be noted"):
        note_read(split="test", purpose="why", command="triage score", dataset=DIGEST, ledger=tmp_path)


def test_looks_of_several_processes_at_once_all_arrive_whole(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.md"
    code = (
        "import sys; from pathlib import Path; from eval.reads import note_read\n"
        "for each in range(25):\n"
        "    note_read(split='test', purpose=f'look {sys.argv[2]}-{each}', command='c', dataset='d' * 64, ledger=Path(sys.argv[1]))"
    )
    environment = {"PYTHONPATH": str(ROOT), CODE_VERSION_VARIABLE: "commit", "PATH": ""}
    readers = [subprocess.Popen([sys.executable, "-c", code, str(ledger), str(number)], env=environment) for number in range(4)]
    assert [reader.wait(timeout=60) for reader in readers] == [0, 0, 0, 0]
    content = ledger.read_text(encoding="utf-8")
    assert content.count("# Looks at the test split") == 1
    lines = content.removeprefix(HEAD).splitlines()
    assert all(line.count(" | ") == 4 for line in lines)
    assert {line.split(" | ")[-1].removesuffix(" |") for line in lines} == {f"look {number}-{each}" for number in range(4) for each in range(25)}


def test_the_projects_ledger_begins_with_its_head() -> None:
    assert LEDGER_PATH.read_text(encoding="utf-8").startswith(HEAD)
