"""The provenance of weights, for the card of a checkpoint."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import brats3d
from brats3d.training.timed_schedule import TimedSchedule


class Provenance:
    """Callable that returns the provenance of the weights; called for each checkpoint.

    Args:
        config: name of the config.
        seed: random seed of the run.
        device: device of the run.
        schedule: counts the minutes.
        trained_on: description of the data.
        absent_sequences: True if the network was trained with sequences missing.
    """

    def __init__(
        self,
        config: str,
        seed: int,
        device: str | torch.device,
        schedule: TimedSchedule,
        trained_on: str,
        absent_sequences: bool,
    ) -> None:
        self.schedule = schedule
        self.entries = {
            "config": config,
            "seed": seed,
            "device": device_name(device),
            "commit": source_version(),
            "trained_on": trained_on,
            "absent_sequences": absent_sequences,
        }

    def __call__(self) -> dict[str, Any]:
        """Return the entries of the card: the arguments, the minutes so far, the device's name and the commit."""
        return {**self.entries, "minutes": round(self.schedule.elapsed_minutes, 2)}


def device_name(device: str | torch.device) -> str:
    """Return the name of a GPU, such as ``NVIDIA A100-SXM4-40GB``, or the processor and the number of threads."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def source_version() -> str:
    """Return the commit of the source tree if the package runs from one, else the version of the package."""
    root = Path(brats3d.__file__).resolve().parent.parent
    if (root / ".git").exists():
        describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
        try:
            return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    return f"brats3d {brats3d.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
