"""The ledger of looks at the test split: `eval/TEST_READS.md`, a line a look, written by whatever looks.

Every look lets the test split steer the next choice a little, and after enough of them it measures nothing (Dwork et al. 2015,
"The reusable holdout", Science 349). The ledger does not prevent that; it lets a reader count.
"""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

from triage.errors import DatasetError
from triage.run import code_version

LEDGER_PATH = Path(__file__).with_name("TEST_READS.md")
HEAD = """# Looks at the test split
Each command that reads `data/tickets/test.jsonl` for scores adds a line here by itself, before it shows a number. Nothing is ever taken out.
The test split answers one question, once: how good is what was chosen? **Choosing is done on dev.** A number that was looked at ten times, and
kept because it was the best of ten, is no longer a test result; this table says how many looks a result has behind it. Not noted are what asks
no model: the checks of the data room, and the simulation that draws experiments of the test split's groups and labels.

| when (UTC) | commit | dataset | command | purpose |
|---|---|---|---|---|
"""


def note_read(*, split: str, purpose: str, command: str, dataset: str, ledger: Path = LEDGER_PATH) -> None:
    """Add a look to the ledger; a look at any other split than test is none. `dataset` is the digest of the split's file.

    Several processes may do this at once: each waits for the ledger's lock.

    Raises:
        DatasetError: the purpose is empty, or the ledger cannot be written. Then the split may not be read either.
    """
    if split != "test":
        return
    if not purpose.strip():
        raise DatasetError("the test split is read only for a purpose that can be written down", "say what for with --purpose, or use dev")
    commit, _, changed = code_version().partition("+")
    cells = (datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"), commit[:12] + (f"+{changed}" if changed else ""), dataset[:12], command, purpose)
    line = "| " + " | ".join(_cell(text) for text in cells) + " |\n"
    try:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with ledger.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.write(((HEAD if stream.seek(0, os.SEEK_END) == 0 else "") + line).encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise DatasetError(f"the look cannot be noted in {ledger}: {error.strerror}", "make the file writable; the split was not read") from None


def _cell(text: str) -> str:
    """Any text as one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|") or "–"
