"""The project itself: layers that a forbidden import breaks, a wheel that answers elsewhere, a README that is true."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.conftest import ROOT
from triage.engines.embedded import EmbeddedEngine
from triage.paths import EMBEDDED_RELEASE_DIR
from triage.pipeline import Pipeline
from triage.taxonomy import load_taxonomy
from triage.ticket import parse_message

ROOMS = ("triage", "service", "training", "eval", "data")


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(program), "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(folder), "PATH": ""}
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "model", "*.onnx"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_layers_hold(tree: Path) -> None:
    done = _lint_imports(tree)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("triage/ticket.py", "import service"),
        ("triage/policy.py", "import torch"),
        ("triage/redact.py", "import triage.ticket"),
        ("service/wire.py", "import training.finetune"),
        ("eval/accuracy.py", "import service.app"),
    ],
)
def test_a_forbidden_import_is_caught(tree: Path, file: str, line: str) -> None:
    path = tree / file
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    done = _lint_imports(tree)
    assert done.returncode != 0
    assert "BROKEN" in done.stdout


def test_the_wheel_installed_elsewhere_answers_from_another_folder(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], check=True, timeout=240)
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 30_000_000
    elsewhere = tmp_path / "elsewhere"
    venv.create(elsewhere, with_pip=False, symlinks=True)
    python = elsewhere / "bin" / "python"
    [site] = elsewhere.glob("lib/python*/site-packages")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True, timeout=240)
    here = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    (site / "borrowed.pth").write_text(f"{here}\n")
    code = (
        "import triage, sys; print(triage.__file__); from triage.cli import main; sys.argv = ['triage', 'ask', '--json', 'my parcel is late']; main()"
    )
    done = subprocess.run([str(python), "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    module, answer = done.stdout.splitlines()
    assert Path(module).is_relative_to(elsewhere)
    assert json.loads(answer)["ticket"]["category"] in load_taxonomy().labels("category")


def test_the_readme_names_only_targets_and_commands_that_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", readme)) <= targets
    assert set(re.findall(r"^make ([a-z-]+)", readme, re.MULTILINE)) <= targets
    commands = set(re.findall(r"triage ([a-z]+)\b(?= )", " ".join(re.findall(r"\.venv/bin/triage [^\n`]*", readme))))
    assert commands <= {entry.name for entry in entry_points(group="triage.commands")}
    assert len(commands) >= 5


def test_the_readmes_batch_commands_work_as_they_stand(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```console\n(echo .*?\n\.venv/bin/triage batch .*?)\n```", readme, re.DOTALL)
    assert found is not None
    script = found.group(1).replace(".venv/bin/triage", f"{sys.executable} -m triage")
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "1 tickets written" in done.stdout
    assert json.loads((tmp_path / "tickets.jsonl").read_text())["id"] == "1"


def test_the_readmes_ask_and_its_answer_are_what_the_release_says() -> None:
    """The first output shown in the README is compared, word for word but the milliseconds, with what the command prints."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r'\$ \.venv/bin/triage ask "([^"\n]+)"\n(.*?)```', readme, re.DOTALL)
    assert found is not None
    done = subprocess.run([sys.executable, "-m", "triage", "ask", found.group(1)], capture_output=True, text=True, timeout=60)
    shown = [line.rstrip() for line in found.group(2).strip().splitlines()]
    printed = [line.rstrip() for line in (done.stdout + done.stderr).strip().splitlines()]
    strip = re.compile(r"\d+ ms$|\d+%$")
    assert [strip.sub("", line) for line in shown] == [strip.sub("", line) for line in printed]


def test_the_readmes_http_example_is_what_the_release_says(embedded_engine: EmbeddedEngine) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"-d '(\{.*?\})'.*?```json\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    message, shown = parse_message(json.loads(found.group(1)), source="README"), json.loads(found.group(2))
    [prediction] = asyncio.run(Pipeline(embedded_engine, load_taxonomy()).predict([message], deadline_s=60))
    printed = prediction.model_dump(exclude_none=True)
    assert set(shown) == set(printed)
    assert shown["ticket"] == printed["ticket"]
    assert shown["confidence"] == pytest.approx(printed["confidence"], abs=0.1)
    assert (shown["release"], shown["status"], shown["decided_by"]) == (printed["release"], printed["status"], printed["decided_by"])


def test_the_model_card_states_the_releases_name_and_every_source() -> None:
    from training.embedded_base.corpus import MIXTURE

    card = (ROOT / "training" / "embedded_base" / "CARD.md").read_text(encoding="utf-8")
    assert json.loads((EMBEDDED_RELEASE_DIR / "release.json").read_text())["name"] in card
    for source in MIXTURE:
        assert source in card


def test_no_committed_text_names_this_machines_paths() -> None:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if names.returncode != 0:
        pytest.skip("not a git checkout")
    odd = re.compile(r"(^|[^\w.~-])/(work|root|opt/wheels|opt/pypi)/")
    faults = []
    for name in filter(None, names.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in {".onnx", ".safetensors"} or not path.is_file():
            continue
        if odd.search(path.read_text(encoding="utf-8", errors="replace")) and path.name != Path(__file__).name:
            faults.append(name)
    assert faults == []
