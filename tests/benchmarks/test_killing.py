"""Ten of the trainings that benchmarks/killing.py kills and resumes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "killing.py"


@pytest.mark.slow
def test_ten_killed_trainings_end_bit_identical_to_an_uninterrupted_one() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--runs", "10", "--seed", "7"], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    total = next(line for line in done.stdout.splitlines() if line.startswith("| in all"))
    runs, kills, same = (int(cell) for cell in total.split("|")[2:5])
    assert (runs, same) == (10, 10)
    assert kills >= 10
