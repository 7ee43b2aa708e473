"""The real service as a process: it answers, survives its engine's death, and stops cleanly."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest


class Service:
    """A `triage serve` on a free port, its log in a file."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.log = folder / "service.log"
        command = [sys.executable, "-m", "triage", "serve", "--port", "0"]
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(command, stderr=stream, env={**os.environ, "TRIAGE_LOG_FORMAT": "json", **environment})
        self.url = self.wait_for(r'"url": "([^"]+)"')
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def wait_for(self, pattern: str, *, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := re.findall(pattern, self.log.read_text()):
                return str(found[-1])
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"{pattern} did not come up in:\n{self.log.read_text()}")

    def kill(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path, TRIAGE_ENGINE_RESTART_S="0.5")
    yield running
    running.kill()


def test_it_answers_survives_its_engine_and_stops(service: Service) -> None:
    engine = int(service.wait_for(r'"engine_pid": (\d+)'))
    secret = "my invoice for the blue whale is wrong"
    first = service.client.post("/v1/tickets", json={"message": secret}).json()
    assert first["status"] == "triaged"

    os.kill(engine, signal.SIGKILL)
    lost = service.client.post("/v1/tickets", json={"message": secret}).json()
    assert lost["status"] == "unread"
    assert lost["reasons"] == ["unavailable"]
    assert service.client.get("/readyz").status_code == 503

    end = time.monotonic() + 30
    while service.client.get("/readyz").status_code != 200 and time.monotonic() < end:
        time.sleep(0.1)
    assert service.client.post("/v1/tickets", json={"message": secret}).json()["ticket"] == first["ticket"]

    assert service.stop() in (0, -signal.SIGTERM)  # uvicorn shuts down in order and then dies of the signal, as a supervisor expects
    log = service.log.read_text()
    assert "engine_died" in log
    assert '"event": "stopped"' in log
    assert "whale" not in log
    assert "Traceback" not in log


def test_the_engine_ends_when_the_service_is_killed(service: Service) -> None:
    engine = int(service.wait_for(r'"engine_pid": (\d+)'))
    service.process.kill()
    service.process.wait()
    end = time.monotonic() + 20
    while _lives(engine) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _lives(engine)


def _lives(pid: int) -> bool:
    """False once the process is gone or only waits to be reaped by whoever inherited it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_stop_signal_to_the_whole_group_loses_no_message(service: Service) -> None:
    import threading

    engine = int(service.wait_for(r'"engine_pid": (\d+)'))
    answers: list[str] = []
    text = "The invoice for May is wrong. " * 2_000

    def post() -> None:
        answers.append(httpx.post(f"{service.url}/v1/tickets", json={"message": text}, timeout=60, trust_env=False).json()["status"])

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    for pid in (engine, service.process.pid):
        os.kill(pid, signal.SIGTERM)
    for thread in threads:
        thread.join()
    service.process.wait(timeout=30)
    assert answers == ["triaged"] * 4
    assert "engine_died" not in service.log.read_text()


def test_a_hung_engine_is_killed_and_started_again(tmp_path: Path) -> None:
    service = Service(tmp_path, TRIAGE_ENGINE_RESTART_S="0.2", TRIAGE_DEADLINE_S="2")
    try:
        os.kill(int(service.wait_for(r'"engine_pid": (\d+)')), signal.SIGSTOP)
        assert service.client.post("/v1/tickets", json={"message": "hello"}).json()["reasons"] == ["timeout"]
        end = time.monotonic() + 30
        while time.monotonic() < end and service.log.read_text().count("engine_started") < 2:
            time.sleep(0.1)
        assert service.client.post("/v1/tickets", json={"message": "hello"}).json()["status"] == "triaged"
        assert "engine_hung" in service.log.read_text()
    finally:
        service.kill()


def test_a_release_that_cannot_be_served_is_an_error_and_a_hint(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "triage", "serve", "--port", "0", "--release", str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert done.stderr.startswith("error: no release in ")
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run([sys.executable, "-m", "triage", "serve", "--port", str(port)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert f"error: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "hint: choose another with --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_ends_well_and_shows_a_message_that_no_engine_read() -> None:
    text = 'It says "error 17" & costs $5 [bold] since [/red] Monday'
    environment = {**os.environ, "MSG": text, "TRIAGE_LOG_FORMAT": "json", "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-m", "service.demo"], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(text) >= 1
    assert "unread, decided by fallback (unavailable)" in done.stdout
