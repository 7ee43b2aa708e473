"""Where things lie, and the only two ways this project writes a whole file."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import IO, Any

from triage.errors import DatasetError

PACKAGE_DIR = Path(__file__).resolve().parent
DEFAULT_TAXONOMY_PATH = PACKAGE_DIR / "taxonomy.toml"
EMBEDDED_RELEASE_DIR = PACKAGE_DIR / "embedded"


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write beside `path`, flush to disk, then rename: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json_atomically(path: Path, value: Any) -> None:
    """`write_bytes_atomically` of indented UTF-8 JSON with a final newline."""
    write_bytes_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def canonical_json(value: Any) -> str:
    """Compact JSON with sorted keys, the form whose digest is taken."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def lock_file(stream: IO[bytes], path: Path) -> None:
    """Keep a second process out for as long as this one has the file open.

    Raises:
        DatasetError: another process holds it; the message names `path`.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DatasetError(f"another run is writing {path}", "wait for it, or name another file with --out") from None


def file_digest(path: Path) -> str:
    """The lower-case hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_digest(folder: Path) -> str:
    """Digest of a model folder's safetensors files, names and contents.

    Raises:
        FileNotFoundError: there are none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no safetensors file in {folder}")
    return text_digest("\n".join(f"{path.name} {file_digest(path)}" for path in files))


def text_digest(text: str) -> str:
    """The lower-case hexadecimal SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
