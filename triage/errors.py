"""The errors a person is meant to read.

Every fault the product foresees is a `TriageError`: a message that says what is wrong and where, and a hint that
says what to do next. Surfaces turn it into their own form once (the CLI prints `error:` and `hint:`, HTTP answers a
problem document). An exception that is not a `TriageError` is a bug and keeps its traceback.
"""

from __future__ import annotations


class TriageError(Exception):
    """A foreseen fault. `str()` gives the message alone; `hint` is the next step and may be empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class TaxonomyError(TriageError):
    """A taxonomy file cannot be used: unreadable, incomplete, or two of its parts contradict each other."""


class DatasetError(TriageError):
    """A dataset file holds a record that cannot be used; the message names file and line."""


class MessageError(TriageError):
    """A customer message is not of the form design.md section 4 gives it."""


class ReleaseError(TriageError):
    """A release bundle is missing, damaged, or belongs to another taxonomy."""


class EngineError(TriageError):
    """An engine cannot be started. A message it fails on is an `answer.Failure` instead."""


class RunError(TriageError):
    """A run folder or its record cannot be written or read."""


class SettingsError(TriageError):
    """A setting has a value that is not allowed; the message names the setting and the allowed values."""
