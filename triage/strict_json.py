"""JSON as this project accepts it from outside: UTF-8, no key twice in an object, no NaN or Infinity."""

from __future__ import annotations

import json
from typing import Any, NoReturn


class JsonError(ValueError):
    """Bytes that are no such JSON. Its text names a place and never quotes the content."""

    def __init__(self, message: str, *, encoding: bool = False) -> None:
        super().__init__(message)
        self.encoding = encoding
        """True when the bytes are not even UTF-8."""


def parse_json(content: bytes) -> Any:
    """The value that the bytes hold.

    Raises:
        JsonError: they are not UTF-8, not JSON, nested too deeply, or name a key twice.
    """
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8: byte {error.start} cannot be read", encoding=True) from None
    except RecursionError:
        raise JsonError("not JSON: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: {error.msg} at character {error.pos}") from None
    except JsonError:
        raise
    except ValueError:
        raise JsonError("not JSON: a number has too many digits") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonError("not JSON as it is wanted here: an object names a key twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise JsonError(f"not JSON: {name} is no JSON number")
