"""Time and memory of the audit, compared with only decompressing the same files; time to find 2,000 cases.

python benchmarks/audit.py [--cases 6] [--repeats 7] [--record]
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
from machine import rows, show

from brats3d.audit import audit_dataset
from brats3d.cases import scan_cases
from brats3d.labels import MODALITIES
from brats3d.phantoms import write_phantoms

THREADS = 2
PEAK = """
import re, sys
from pathlib import Path
from brats3d.audit import audit_dataset
assert audit_dataset(sys.argv[1], progress=False).ok
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(folder, options.cases, setting="plain", progress=False)
        speed = measure_speed(Path(folder), options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        memory = [measure_memory(Path(folder, str(n)), n) for n in (10, 200)]
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure_discovery(Path(folder), 2000)
    show("data", f"Audit of {options.cases} full-size phantoms, {THREADS} threads", speed, options.record)
    header = ["peak memory, 10 small cases, MiB", "200 small cases, MiB", "finding 2,000 cases, s"]
    show("data", "Audit: memory and discovery", rows(header, [[*memory, seconds]]), options.record)


def measure_speed(folder: Path, repeats: int) -> list[str]:
    """Run the ways in turn, so that other load on the machine affects all; ratios compare neighbours in time."""
    files = sorted(folder.rglob("*.nii.gz"))

    def of_all_files(unpack: Callable[[Path], int]) -> Callable[[], object]:
        def run() -> object:
            with ThreadPoolExecutor(THREADS) as pool:
                return sum(pool.map(unpack, files))

        return run

    ways = {
        "gzip.open(file).read()": of_all_files(unpack_with_gzip),
        "zlib, one call": of_all_files(unpack_with_zlib),
        "zlib, one call, size known": of_all_files(unpack_with_zlib_and_size),
        "audit": lambda: audit_dataset(folder, progress=False, workers=THREADS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if turn > 0:  # the first one fills the file cache
                seconds[name].append(time.perf_counter() - start)
    cells = []
    for name, measured in seconds.items():
        ratios = [a / s for a, s in zip(seconds["audit"], measured, strict=True)]
        cells.append([name, 1000 * statistics.median(measured) / len(files), statistics.median(ratios)])
    return rows(["way", "ms per file, median", "time of the audit / time of this way, median"], cells)


def unpack_with_gzip(path: Path) -> int:
    with gzip.open(path) as file:
        return len(file.read())


def unpack_with_zlib(path: Path) -> int:
    return len(zlib.decompress(path.read_bytes(), 31))


def unpack_with_zlib_and_size(path: Path) -> int:
    content = path.read_bytes()
    return len(zlib.decompress(content, 31, int.from_bytes(content[-4:], "little")))


def measure_memory(folder: Path, cases: int) -> float:
    """Return the peak memory in MiB of an audit in its own process. Linux only: getrusage counts the parent's peak."""
    noise = np.random.default_rng(0)
    for i in range(cases):
        for name in (*MODALITIES, "seg"):
            values = np.zeros((64, 64, 64), np.uint8 if name == "seg" else np.int16)
            values[8:-8, 8:-8, 8:-8] = noise.integers(1, 3 if name == "seg" else 1000, (48, 48, 48))
            place = folder / f"BraTS20_Training_{i:03d}" / f"BraTS20_Training_{i:03d}_{name}.nii.gz"
            place.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, np.eye(4)), place)
    done = subprocess.run([sys.executable, "-c", PEAK, folder], capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure_discovery(folder: Path, cases: int) -> float:
    for i in range(cases):
        case = folder / f"BraTS20_Training_{i:04d}"
        case.mkdir()
        for name in (*MODALITIES, "seg"):
            (case / f"{case.name}_{name}.nii.gz").touch()
    start = time.perf_counter()
    assert len(scan_cases(folder).cases) == cases
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
