"""The most memory this process has held, in MiB, since it was last asked to forget (Linux; elsewhere since it began)."""

from __future__ import annotations

import contextlib
import re
import resource
import sys
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_rss() -> None:
    """Begin a new measurement where the system can (proc(5): 5 written to clear_refs resets VmHWM). What is held now still counts."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def peak_rss_mib() -> float:
    """The peak resident set in MiB: everything this process holds, imported packages included."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        found = None
    kib = int(found.group(1)) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return round(kib / 1024, 1)
