"""Time to convert a full-size case into BraTS 2020's NIfTI layout, with one process.

python benchmarks/convert.py [--cases 3] [--record]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from machine import rows, show

from brats3d.convert import convert_dataset
from brats3d.phantoms import write_phantoms


def megabytes(folder: Path, cases: int) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / cases / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    cells: list[list[object]] = []
    for layout, form in {"h5": "Kaggle's HDF5 slices", "msd": "Decathlon"}.items():
        with tempfile.TemporaryDirectory() as folder:
            src, out = Path(folder, "src"), Path(folder, "out")
            write_phantoms(src, options.cases, layout=layout, setting="plain", progress=False)
            start = time.perf_counter()
            done = convert_dataset(src, out, workers=1, progress=False)
            seconds = (time.perf_counter() - start) / len(done.written)
            ambiguous = len(done.ambiguous) / options.cases if layout == "h5" else "none"
            cells.append([form, seconds, megabytes(src, options.cases), megabytes(out, options.cases), ambiguous])
    header = ["from", "seconds per case", "MB in", "MB out", "slices of uncertain factor"]
    show("data", "Conversion of full-size phantoms, one process", rows(header, cells), options.record)


if __name__ == "__main__":
    main()
