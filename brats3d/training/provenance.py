"""The provenance of weights, for the card of a checkpoint."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import brats3d
from brats3d.networks import read_card
from brats3d.training.timed_schedule import TimedSchedule


class Provenance:
    """Callable that returns the provenance of the weights; called for each checkpoint.

    If the run starts from a checkpoint, the trainings of that checkpoint's card precede this one. They are part of the
    state of the run, because the checkpoint may be gone when the run is resumed.

    Args:
        config: name of the config.
        settings: values of the knobs.
        recorded: knobs to list in the description of this training.
        schedule: counts the minutes.
        trained_on: description of the data.
    """

    def __init__(
        self,
        config: str,
        settings: Mapping[str, Any],
        recorded: Sequence[str],
        schedule: TimedSchedule,
        trained_on: str,
    ) -> None:
        self.config = config
        self.settings = settings
        self.recorded = recorded
        self.schedule = schedule
        self.trained_on = trained_on
        self._earlier: dict[str, Any] = {}

    def __call__(self, iteration: int) -> dict[str, Any]:
        """Return the entries of the card: config, seed, minutes so far, device, commit, data and all trainings."""
        settings, minutes = self.settings, round(self.schedule.elapsed_minutes, 2)
        device, commit = device_name(settings["device"]), source_version()
        knobs = ", ".join(f"{name} {settings[name]}" for name in self.recorded)
        stage = f"{iteration} steps, {minutes:g} minutes on {device}, {self.config}, {knobs}, commit {commit}"
        earlier = self.state_dict()
        return {
            "config": self.config,
            "seed": settings["seed"],
            "minutes": minutes,
            "device": device,
            "commit": commit,
            "trained_on": "; ".join(dict.fromkeys([*earlier["trained_on"], self.trained_on])),
            "absent_sequences": settings["all_present"] + settings["without_t1ce"] < 1,
            "stages": [*earlier["stages"], stage],
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the trainings before this one and their data."""
        if not self._earlier:
            self._earlier = _history(self.settings["checkpoint"])
        return self._earlier

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self._earlier = dict(state)


def _history(checkpoint: str | Path | None) -> dict[str, Any]:
    if checkpoint is None:
        return {"stages": [], "trained_on": []}
    card = read_card(checkpoint)
    return {
        "stages": card.get("stages", [f"{card.get('iteration', 'an unknown number of')} steps, {checkpoint}"]),
        "trained_on": [card.get("trained_on", f"the data of {checkpoint}")],
    }


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
