"""The command line as a person uses it: through a process, with exit codes, hints and no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from triage.taxonomy import load_taxonomy
from triage.ticket import Ticket, ticket_faults


def run(*words: str, cwd: Path = ROOT, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "triage", *words]
    done = subprocess.run(command, capture_output=True, input=stdin, cwd=cwd, timeout=120)
    result = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in result.stderr, result.stderr
    return result


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['triage', '--help']\n"
        "from triage.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    rooms = {'service', 'training', 'eval', 'data'}\n"
        "    heavy = {'torch', 'onnxruntime', 'fastapi', 'numpy', 'pydantic', 'transformers', *rooms} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in ("ask", "batch", "data", "doctor", "serve"):
        assert f"\n  {command}" in done.stdout


def test_help_answers_in_under_three_tenths_of_a_second() -> None:
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        run("--help")
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.3, times


def test_ask_prints_a_valid_ticket_as_json() -> None:
    done = run("ask", "--json", "where is my parcel")
    assert done.returncode == 0
    ticket = Ticket.model_validate(json.loads(done.stdout)["ticket"])
    assert ticket_faults(ticket, load_taxonomy()) == []


def test_ask_answers_in_under_two_and_a_half_seconds_from_process_start() -> None:
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        assert run("ask", "Where is my parcel?").returncode == 0
        times.append(time.perf_counter() - begin)
    assert min(times) < 2.5, times


@pytest.mark.parametrize("stdin", [b"", b"\xff\xfe broken", "тест".encode(), b"a" * 300_000])
def test_ask_reads_standard_input_whatever_it_holds(stdin: bytes) -> None:
    assert json.loads(run("ask", "--json", "-", stdin=stdin).stdout)["status"] == "triaged"


def test_nothing_to_do_shows_the_help_and_leaves_with_2() -> None:
    done = run()
    assert done.returncode == 2
    assert "Commands" in done.stdout


def test_an_unknown_command_or_option_leaves_with_2() -> None:
    assert run("aks").returncode == 2
    assert run("ask", "--nonsense").returncode == 2


def test_a_bad_taxonomy_leaves_with_3_an_error_and_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n', encoding="utf-8")
    done = run("ask", "x", "--taxonomy", str(path))
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: the taxonomy {path} cannot be used: version: Field required; category: ")
    assert "\nhint: " in done.stderr


def test_a_damaged_model_leaves_with_3_and_names_the_file(tmp_path: Path) -> None:
    from triage.paths import EMBEDDED_RELEASE_DIR

    for path in EMBEDDED_RELEASE_DIR.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[:-100] if path.name == "model.onnx" else content)
    done = run("ask", "x", "--release", str(tmp_path))
    assert done.returncode == 3
    assert "model.onnx was changed" in done.stderr
    assert "hint: restore the bundle" in done.stderr


def test_doctor_says_what_works_and_what_is_absent() -> None:
    done = run("doctor", "--json")
    assert done.returncode == 0
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert findings["release"]["state"] == "works"
    assert findings["answer"]["state"] == "works"
    assert "ms" in findings["answer"]["detail"]


def test_doctor_leaves_with_3_when_something_is_broken(tmp_path: Path) -> None:
    done = run("doctor", "--release", str(tmp_path))
    assert done.returncode == 3
    assert "broken   release" in done.stdout


class TestBatch:
    def write(self, tmp_path: Path, count: int = 12) -> Path:
        path = tmp_path / "in.jsonl"
        lines = [json.dumps({"id": f"m-{place}", "message": f"my invoice {place} is wrong"}).encode() for place in range(count)]
        lines[3:3] = [
            b"{broken",
            b'{"id": "m-1", "message": "again"}',
            b'{"message": "no id"}',
            b'{"id": "x", "mesage": "typo"}',
            b'{"id": "y", "message": "\xff"}',
        ]
        path.write_bytes(b"\n".join(lines) + b"\n")
        return path

    def test_good_lines_are_answered_and_bad_ones_named(self, tmp_path: Path) -> None:
        source, out = self.write(tmp_path), tmp_path / "out.jsonl"
        done = run("batch", str(source), "--out", str(out), "--json")
        assert done.returncode == 0
        assert json.loads(done.stdout) | {"rejected_path": ""} == {
            "written": 12,
            "resumed": 0,
            "rejected": 5,
            "unread": 0,
            "rejected_path": "",
        }
        assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [f"m-{place}" for place in range(12)]
        reasons = [json.loads(line) for line in (tmp_path / "out.rejected.jsonl").read_text().splitlines()]
        assert [reason["line"] for reason in reasons] == [4, 5, 6, 7, 8]
        assert "also at line 2" in reasons[1]["reason"]
        assert "mesage: unknown key" in reasons[3]["reason"]

    def test_strict_leaves_with_3_after_all_the_work(self, tmp_path: Path) -> None:
        source, out = self.write(tmp_path), tmp_path / "out.jsonl"
        assert run("batch", str(source), "--out", str(out), "--strict").returncode == 3
        assert len(out.read_text().splitlines()) == 12

    def test_a_run_that_was_killed_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        source, out, whole = self.write(tmp_path, 60), tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
        assert run("batch", str(source), "--out", str(whole)).returncode == 0
        process = subprocess.Popen([sys.executable, "-m", "triage", "batch", str(source), "--out", str(out)], stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while time.monotonic() < end and (not out.exists() or out.stat().st_size < 2_000):
            time.sleep(0.01)
        process.kill()
        process.wait()
        with out.open("ab") as stream:
            stream.write(b'{"id": "m-59", "tick')
        resumed = json.loads(run("batch", str(source), "--out", str(out), "--json").stdout)
        assert resumed["resumed"] > 0
        assert resumed["written"] + resumed["resumed"] == 60
        assert self.tickets(out) == self.tickets(whole)

    def tickets(self, path: Path) -> list[tuple[str, str]]:
        return [(record["id"], json.dumps(record["ticket"])) for record in map(json.loads, path.read_text().splitlines())]

    def test_another_kind_of_file_is_not_written_over(self, tmp_path: Path) -> None:
        source = self.write(tmp_path)
        out = tmp_path / "notes.jsonl"
        out.write_text('{"id": 1}\n')
        done = run("batch", str(source), "--out", str(out))
        assert done.returncode == 3
        assert "notes.jsonl:1 is not a prediction" in done.stderr
        assert out.read_text() == '{"id": 1}\n'
        assert run("batch", str(source), "--out", str(source)).returncode == 3
        assert run("batch", str(tmp_path / "none"), "--out", str(out)).returncode == 3


def test_ctrl_c_leaves_with_130(tmp_path: Path) -> None:
    import signal

    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"id": f"m-{place}", "message": "hello " * 200}) + "\n" for place in range(500)))
    process = subprocess.Popen([sys.executable, "-m", "triage", "batch", str(source), "--out", str(tmp_path / "out.jsonl")], stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while time.monotonic() < end and not ((tmp_path / "out.jsonl").exists() and (tmp_path / "out.jsonl").stat().st_size):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in stderr


class TestBatchLosesNothing:
    """Stories of files that an earlier version destroyed."""

    @pytest.mark.parametrize("content", [b'{"precious": 1}', b"line1\nline2 long notes", b'{"precious": 1}\n'])
    def test_a_file_that_holds_something_else_is_left_as_it_is(self, tmp_path: Path, content: bytes) -> None:
        source, out = tmp_path / "in.jsonl", tmp_path / "precious.txt"
        source.write_text('{"id": "1", "message": "x"}\n')
        out.write_bytes(content)
        assert run("batch", str(source), "--out", str(out)).returncode == 3
        assert out.read_bytes() == content

    def test_the_input_is_refused_as_output_under_any_name(self, tmp_path: Path) -> None:
        source = tmp_path / "t.rejected.jsonl"
        source.write_text('{"id": "1", "message": "x"}\n')
        os.link(source, tmp_path / "linked.jsonl")
        for out in ("linked.jsonl", "t.jsonl"):
            done = run("batch", str(source), "--out", str(tmp_path / out))
            assert done.returncode == 3
            assert "is the input itself" in done.stderr
        assert source.read_text() == '{"id": "1", "message": "x"}\n'

    def test_a_folder_as_output_and_a_taxonomy_that_does_not_fit_leave_nothing_behind(self, tmp_path: Path) -> None:
        source = tmp_path / "in.jsonl"
        source.write_text('{"id": "1", "message": "x"}\n')
        assert run("batch", str(source), "--out", str(tmp_path)).returncode == 3
        own = tmp_path / "own.toml"
        own.write_text((ROOT / "triage" / "taxonomy.toml").read_text().replace('version = "1"', 'version = "2"'))
        assert run("batch", str(source), "--out", str(tmp_path / "out.jsonl"), "--taxonomy", str(own)).returncode == 3
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "own.toml"]

    def test_a_second_run_on_the_same_output_is_refused(self, tmp_path: Path) -> None:
        import fcntl

        source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        source.write_text('{"id": "1", "message": "x"}\n')
        rejected = tmp_path / "out.rejected.jsonl"
        rejected.write_text("what the first run has found\n")
        with out.open("ab") as first:
            fcntl.flock(first, fcntl.LOCK_EX)
            done = run("batch", str(source), "--out", str(out))
        assert done.returncode == 3
        assert "another run is writing" in done.stderr
        assert rejected.read_text() == "what the first run has found\n"


def test_doctor_names_what_a_bundle_lacks(tmp_path: Path) -> None:
    from triage.paths import EMBEDDED_RELEASE_DIR
    from triage.release import write_manifest

    manifest = json.loads((EMBEDDED_RELEASE_DIR / "release.json").read_text())
    (tmp_path / "release.json").write_text("{}")
    write_manifest(tmp_path, {key: value for key, value in manifest.items() if key not in {"files", "seal"}})
    done = run("doctor", "--release", str(tmp_path))
    assert done.returncode == 3
    assert "has no model.onnx and no tokenizer.json" in done.stdout


def test_batch_reads_on_into_an_output_that_holds_as_many_others(tmp_path: Path) -> None:
    """It once took the number of finished ids for those of its input, and died on an assertion."""
    for name, ids in (("a", ("1", "2", "3")), ("b", ("8", "9"))):
        (tmp_path / f"{name}.jsonl").write_text("".join(f'{{"id": "{each}", "message": "where is my parcel"}}\n' for each in ids), encoding="utf-8")
    out = tmp_path / "out.jsonl"
    for name, written in (("a", 3), ("b", 2), ("b", 0)):
        done = run("batch", str(tmp_path / f"{name}.jsonl"), "--out", str(out), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["written"] == written
    assert len(out.read_text(encoding="utf-8").splitlines()) == 5
