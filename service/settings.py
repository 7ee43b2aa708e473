"""The settings of a deployment, from environment variables that begin with `TRIAGE_`. Built when the app is, never on import."""

from __future__ import annotations

import difflib
import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from triage.errors import SettingsError
from triage.logs import LogFormat
from triage.paths import EMBEDDED_RELEASE_DIR
from triage.run import CODE_VERSION_VARIABLE

PREFIX = "TRIAGE_"


class Settings(BaseSettings):
    """Everything a deployment can set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on. Only loopback for now: there are no API keys yet."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    taxonomy: Path | None = None
    """A taxonomy file; the default one otherwise."""
    release: Path = EMBEDDED_RELEASE_DIR
    """The release bundle to serve."""
    deadline_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    """Seconds after which a message that is still being read becomes an unread ticket."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=16 * 1024 * 1024)] = 256 * 1024
    """Largest request body."""
    body_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Seconds within which a request's body has to arrive."""
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Messages accepted at once; one more is answered 503 with Retry-After."""
    engine_threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Threads of the engine; up to four cores otherwise."""
    engine_restart_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """Seconds before an engine that died is started again."""
    log_format: LogFormat = "text"
    """Log lines as `text` or `json`."""

    @field_validator("host")
    @classmethod
    def _loopback(cls, value: str) -> str:
        try:
            loopback = value == "localhost" or ipaddress.ip_address(value).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError("only a loopback address (127.0.0.1, ::1, localhost), because there are no API keys yet")
        return value

    @classmethod
    def load(cls, **replaced: Any) -> Self:
        """Read the environment; `replaced` wins over it where it is not None.

        Raises:
            SettingsError: naming every variable that does not exist, or every one with a value that is not allowed.
        """
        names = [f"{PREFIX}{field.upper()}" for field in cls.model_fields]
        unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in {*names, CODE_VERSION_VARIABLE})
        if unknown:
            nearest = "; ".join(f"{name}: did you mean {(difflib.get_close_matches(name, names, 1) or ['none of them'])[0]}?" for name in unknown)
            raise SettingsError(f"unknown settings: {', '.join(unknown)}", f"{nearest} The settings are {', '.join(names)}")
        try:
            return cls(**{name: value for name, value in replaced.items() if value is not None})
        except ValidationError as error:
            faults = [
                f"{PREFIX}{str(item['loc'][0]).upper()} is {item['input']!r}: {item['msg'].removeprefix('Value error, ')}" for item in error.errors()
            ]
            raise SettingsError("; ".join(faults), "change the environment variable or the option of the same name") from None
