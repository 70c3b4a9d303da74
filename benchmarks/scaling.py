"""Start-up work that grows with the number of cases.

    python benchmarks/scaling.py [--cases 10 100 1000 10000] [--record]

The cases are links to the files of one small phantom, so that only names, headers and records are measured, not
volumes. Each step is a function that a run calls at its start. The last column is seconds per thousand cases of the
largest folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from links import link_cases
from machine import rows, show

from brats3d.cases import find_cases, load_cases, load_fold
from brats3d.files import PREDICTIONS_NAME, Failures, WrittenFiles
from brats3d.phantoms import write_phantoms

SHARDS = 100


def write_records(folder: Path, cases: int) -> None:
    """Write the record that a prediction leaves for each case."""
    folder.mkdir()
    files = WrittenFiles(folder, PREDICTIONS_NAME)
    for number in range(cases):
        files.write(folder / f"BraTS20_Training_{number:06d}.nii.gz", lambda file: file.write(b"labels"), 20 * "0")


def steps(cases: Path, records: Path) -> dict[str, Callable[[], object]]:
    """Return name -> what a run does at its start."""
    failures = records / "none"
    return {
        "find the cases": lambda: find_cases(cases),
        "training: find, split by patient, check headers": lambda: load_fold(cases, "training"),
        "inference: find, check headers": lambda: load_cases(cases, failures=Failures(failures)),
        f"inference: one of {SHARDS} shards": lambda: load_cases(
            cases, failures=Failures(failures), shard=f"1/{SHARDS}"
        ),
        "inference: read what is done": lambda: WrittenFiles(records),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    for count in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            cases, records = Path(folder, "cases"), Path(folder, "records")
            write_phantoms(Path(folder, "one"), 1, seed=0, size="small", setting="plain", progress=False)
            link_cases(Path(folder, "one"), cases, count)
            write_records(records, count)
            for name, step in steps(cases, records).items():
                start = time.perf_counter()
                step()
                seconds.setdefault(name, []).append(time.perf_counter() - start)
    cells: list[list[object]] = [
        [name, *found, 1000 * found[-1] / options.cases[-1]] for name, found in seconds.items()
    ]
    peak = psutil.Process().memory_info().rss / 2**30
    header = ["seconds for", *(f"{count:,} cases" for count in options.cases), "a thousand"]
    title = f"Growth with the number of cases (memory at the end {peak:.2f} GiB)"
    show("data", title, rows(header, cells), options.record)


if __name__ == "__main__":
    main()
