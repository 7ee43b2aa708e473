"""Time and peak memory of importing 100,000 rows of CSV, as `triage data import` does it, in a folder that is removed afterwards.

The rows are made of words and amounts; a tenth holds an e-mail address, a tenth a phone number, and 2 % have a label without a home.

    python -m data.bench_import [--rows N]
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = 100_000
TEXT = (
    "my order invoice parcel account login the a is was not has since last week charged twice broken late missing please could you check it again "
    "app site page screen export report password reset code never came back money refund return size colour wrong delivery driver said nobody home"
)
WORDS = TEXT.split()
MAPPING = """
[source]
name = "bench"
licence = "none"
consent = "made up"
[columns]
id = "Ref"
message = "Body"
group = "From"
category = "Type"
[labels.category]
Invoices = "billing"
Parcels = "shipping"
"""


def write_rows(path: Path, rows: int) -> None:
    """A seeded CSV file; messages have 20 to 90 words."""
    draw = random.Random(1)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Ref", "From", "Type", "Body"])
        for number in range(rows):
            words = draw.choices(WORDS, k=draw.randint(20, 90))
            if number % 10 == 0:
                words.append(f"write to user{number}@example.org")
            if number % 10 == 1:
                words.append(f"call 07700 9{draw.randrange(100_000):05d}")
            kind = "Toner" if number % 50 == 0 else draw.choice(["Invoices", "Parcels", "bug"])
            writer.writerow([number, f"customer {number % (rows // 4 + 1)}", kind, " ".join(words) + f" {draw.randrange(900)} euro"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=ROWS)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        source, mapping, out = (Path(folder) / name for name in ("in.csv", "mapping.toml", "out.jsonl"))
        write_rows(source, rows)
        mapping.write_text(MAPPING, encoding="utf-8")
        start = time.monotonic()
        words = [sys.executable, "-m", "triage", "data", "import", str(source), "--mapping", str(mapping), "--out", str(out), "--allow-rejected"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - start
        peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1024**2 if platform.system() == "Darwin" else 1024)
        counts = json.loads(out.with_name("out.import.json").read_text(encoding="utf-8"))["counts"]
    print(f"{rows} rows ({counts['written']} in, {counts['rejected']} rejected) in {seconds:.1f} s, peak {peak_mib:.0f} MiB")


if __name__ == "__main__":
    main()
