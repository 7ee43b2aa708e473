"""The demo: start the service on a free port, send it messages, stop its engine, send one more, stop.

python -m service.demo            a handful of built-in messages
MSG="…" python -m service.demo    your own message
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from triage.paths import PACKAGE_DIR

MESSAGES_PATH = PACKAGE_DIR / "demo_messages.jsonl"
START_TIMEOUT_S = 60.0


class DemoError(Exception):
    """The service did not do what the demo shows."""


def load_messages() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The message in `MSG`, or the built-in ones; and the one that is sent once the engine has stopped."""
    records = [json.loads(line) for line in MESSAGES_PATH.read_text(encoding="utf-8").splitlines()]
    *first, last = ({key: value for key, value in record.items() if key != "id"} for record in records)
    return ([{"message": text}] if (text := os.environ.get("MSG")) else first), last


def show(console: Console, record: dict[str, Any], prediction: dict[str, Any]) -> None:
    """Print one message and its ticket with confidence."""
    console.print(f"\n“{record['message']}”", style="bold", highlight=False, markup=False)
    table = Table(show_header=False, box=None, padding=(0, 2))
    for field, value in prediction["ticket"].items():
        share = prediction["confidence"].get(field)
        table.add_row(field, json.dumps(value) if isinstance(value, bool) else escape(str(value)), "" if share is None else f"{share:.0%}")
    console.print(table)
    reasons = f" ({', '.join(prediction['reasons'])})" if prediction["reasons"] else ""
    console.print(
        f"  {prediction['status']}, decided by {prediction['decided_by']}{reasons}, {prediction['latency_ms']:.0f} ms",
        style="dim",
        highlight=False,
    )


def wait_for(log: Path, process: subprocess.Popen[bytes], pattern: str) -> str:
    """The first group of a pattern once the service's log holds it.

    Raises:
        DemoError: the service stopped, or the time is up; with the end of its log.
    """
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        text = log.read_text(encoding="utf-8", errors="replace")
        if found := re.search(pattern, text):
            return found.group(1)
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise DemoError(f"the service did not start; its log ends with:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}")


def run_demo(console: Console) -> None:
    """The whole demo, against a real server process.

    Raises:
        DemoError: something that should have worked did not.
    """
    messages, last = load_messages()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "service.log"
        plain = {name: value for name, value in os.environ.items() if not name.startswith("TRIAGE_")}
        command = [sys.executable, "-m", "triage", "serve", "--port", "0"]
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stderr=stream, env=plain | {"TRIAGE_ENGINE_RESTART_S": "60"})
        try:
            url = wait_for(log, process, r"url=(http://\S+)")
            engine = int(wait_for(log, process, r"engine_pid=(\d+)"))
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                console.print(f"the service is up at {url}, release {client.get('/readyz').raise_for_status().json()['release']}", highlight=False)
                for record in messages:
                    prediction = _post(client, record)
                    show(console, record, prediction)
                    if prediction["status"] != "triaged":
                        raise DemoError("the engine runs and did not read the message")
                console.print("\nNow the engine is stopped (kill -9), and one more message comes in:", style="bold")
                os.kill(engine, signal.SIGKILL)
                prediction = _post(client, last)
                show(console, last, prediction)
                if prediction["decided_by"] != "fallback" or prediction["ticket"]["needs_human"] is not True:
                    raise DemoError("a message that no engine read must end with a person")
                console.print("\nNothing was guessed: the message went to a person. The service has stopped again.")
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _post(client: httpx.Client, record: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/v1/tickets", json=record)
    if response.status_code != 200:
        raise DemoError(f"POST /v1/tickets answered {response.status_code}: {response.text[:500]}")
    answer: dict[str, Any] = response.json()
    return answer


def main() -> None:
    try:
        run_demo(Console(soft_wrap=True))
    except DemoError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
