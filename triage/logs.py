"""Logs to stderr, one event a line, as text or JSON. Never ticket text: ids, digests, lengths, reasons."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]
_FIELDS = "fields"


class _Formatter(logging.Formatter):
    def __init__(self, style: LogFormat) -> None:
        super().__init__()
        self._shape = style

    def format(self, record: logging.LogRecord) -> str:
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields: dict[str, object] = dict(getattr(record, _FIELDS, {}))
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = record.exc_info[0].__name__
            fields["at"] = _innermost_frame(record)
        if self._shape == "json":
            event = {"time": stamp, "level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
            return json.dumps(event | fields, default=str)
        pairs = "".join(f" {key}={value}" for key, value in fields.items())
        return f"{stamp} {record.levelname.lower():7s} {record.getMessage()}{pairs}"


def _innermost_frame(record: logging.LogRecord) -> str:
    """Where an exception was raised, without its message, which might quote a customer."""
    traceback = record.exc_info[2] if record.exc_info else None
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else ""


def set_up_logs(style: LogFormat = "text", level: str = "INFO") -> None:
    """Send every log record of this process to stderr in one form. Call once, at the edge."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def log_event(logger: logging.Logger, event: str, *, level: int = logging.INFO, exc_info: bool = False, **fields: object) -> None:
    """One event with named fields."""
    logger.log(level, event, extra={_FIELDS: fields}, exc_info=exc_info)
