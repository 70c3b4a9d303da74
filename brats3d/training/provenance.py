"""Where weights come from: what a model's card says beside its scores."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import brats3d
from brats3d.training.time_budget import TimeBudget


class Provenance:
    """Facts for the card of a checkpoint, told anew at each saving.

    Args:
        config: name of the config.
        seed: of the run.
        device: that it runs on.
        budget: of time.
        trained_on: in words.
    """

    def __init__(
        self,
        config: str,
        seed: int,
        device: str | torch.device,
        budget: TimeBudget,
        trained_on: str,
        absent_sequences: bool,
    ) -> None:
        self.config = config
        self.seed = seed
        self.device = device_name(device)
        self.budget = budget
        self.trained_on = trained_on
        self.absent_sequences = absent_sequences
        self.commit = source_version()

    def __call__(self) -> dict[str, Any]:
        """What was told, the minutes so far, the device's name and the commit."""
        return {
            "config": self.config,
            "seed": self.seed,
            "minutes": round(self.budget.elapsed_minutes, 2),
            "device": self.device,
            "commit": self.commit,
            "trained_on": self.trained_on,
            "absent_sequences": self.absent_sequences,
        }


def device_name(device: str | torch.device) -> str:
    """Such as ``NVIDIA A100-SXM4-40GB``, or the processor and the number of threads."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def source_version() -> str:
    """The commit of the source tree that this package runs from, if it is one; else the package's version."""
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
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
