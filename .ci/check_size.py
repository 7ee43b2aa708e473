"""Refuse a repository that grows too large, or that holds binaries other than the embedded model's."""

import subprocess
import sys
from pathlib import Path

LIMIT_BYTES = 60 * 1024 * 1024
BINARY_SUFFIXES = {".safetensors", ".onnx", ".bin", ".pt", ".gguf", ".npz", ".npy", ".zip", ".whl", ".parquet", ".pdf"}
BINARIES_ALLOWED_UNDER = ("training/embedded_base/model/", "triage/embedded/")


def main() -> int:
    names = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True).stdout.split("\0")
    files = [Path(name) for name in names if name and Path(name).is_file()]
    total = sum(path.stat().st_size for path in files)
    strays = [str(path) for path in files if path.suffix in BINARY_SUFFIXES and not str(path).startswith(BINARIES_ALLOWED_UNDER)]
    print(f"{len(files)} tracked files, {total / 2**20:.1f} of {LIMIT_BYTES / 2**20:.0f} MiB")
    if total > LIMIT_BYTES:
        print("error: too large\nhint: leave out what can be built again")
    for stray in strays:
        print(f"error: {stray} is a binary outside the embedded model's folders")
    return int(total > LIMIT_BYTES or bool(strays))


if __name__ == "__main__":
    sys.exit(main())
