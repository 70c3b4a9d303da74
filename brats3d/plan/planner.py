"""Choose the values of a plan one after the other: memory, then time, then the schedule."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brats3d.data import RESERVED_BYTES
from brats3d.files import first_line
from brats3d.plan.choice import Choice
from brats3d.plan.choose_crop import (
    MEMORY_MARGIN,
    Crop,
    Needs,
    batch_sizes,
    choose_crop,
    format_size,
    patch_sizes,
    smaller_patch,
)
from brats3d.plan.choose_loader import choose_cache, keeps_up, workers_for
from brats3d.plan.choose_schedule import (
    LEAST_PATCHES,
    TIME_MARGIN,
    choose_val_interval,
    default_epochs,
    epochs_in,
    most_epochs,
)
from brats3d.plan.estimate import Estimate, Timing, estimate
from brats3d.plan.facts import CPU, DataFacts, MachineFacts, shared_memory_fits
from brats3d.plan.trial_run import Trial

PLANNED = ("patch_size", "batch_size", "num_workers", "augment_on_device", "cache", "epochs", "val_interval")
"""The knobs that are planned, in the order in which they are printed."""

logger = logging.getLogger("brats3d")


@dataclass(frozen=True)
class Planner:
    """Chooses the values.

    Args:
        data, machine: the facts.
        knobs: all knobs: defaults, overlays and what the user gave.
        given: id -> value that the user gave.
        trial: short trainings.
        known: what was measured before the trials.
        multiple: sides of patches are multiples of this.
    """

    data: DataFacts
    machine: MachineFacts
    knobs: Mapping[str, Any]
    given: Mapping[str, Any]
    trial: Trial
    known: Timing
    multiple: int = 16

    def choose(self, hours: float | None) -> tuple[dict[str, Choice], Timing]:
        """Return the planned knobs, and the timing of a training with them.

        Raises:
            UsageError: if no plan fits in memory or in the hours.
        """
        crop = self._crop()
        chosen = self._crop_choices(crop)
        reserved = max(RESERVED_BYTES, int(MEMORY_MARGIN * sum(crop.needs[CPU].values())))
        cache = choose_cache(self.data, self.machine, self.knobs["cache"], reserved)
        chosen["cache"] = self._kept("cache", cache)
        timing, loader = self._time(chosen)
        if hours is not None and "patch_size" not in self.given:
            patches = TIME_MARGIN * hours * 3600 / timing.train * self.knobs["patches_per_case"]
            patch = smaller_patch(self._patches(), crop.patch_size, patches / LEAST_PATCHES)
            if patch != crop.patch_size:
                reason = f"smaller than memory allows: {hours:g} hours are short for {LEAST_PATCHES} larger patches"
                chosen["patch_size"] = Choice(patch, reason)
                timing, loader = self._time(chosen)
        every = {**chosen, **loader, **self._schedule(timing, hours)}
        return {name: every[name] for name in PLANNED}, timing

    def estimate(self, timing: Timing, epochs: int, val_interval: int) -> Estimate:
        """Estimate the duration of a run."""
        return estimate(timing, self.data, epochs, val_interval, self.knobs["full_every"])

    def _patches(self) -> list[list[int]]:
        return patch_sizes(self.data.brain_box, self.knobs["patch_size"], self.multiple)

    def _crop(self) -> Crop:
        """Choose patch and batch by memory."""
        patches = [self.knobs["patch_size"]] if "patch_size" in self.given else self._patches()
        default = self.knobs["batch_size"]
        batches = [default] if "batch_size" in self.given else batch_sizes(self.data, self.machine, default)
        return choose_crop(self.machine, patches, batches, self._needs)

    def _crop_choices(self, crop: Crop) -> dict[str, Choice]:
        default = self.knobs["batch_size"]
        why = "the largest that fits in memory and that the network accepts"
        if crop.patch_size == self.knobs["patch_size"]:
            why = "the default; it fits in memory"
        elif crop.patch_size == self._patches()[0]:
            why = "the default, cut to the median brain box; it fits in memory"
        batch = "all that memory or the number of cases allow"
        if crop.batch_size >= default:
            batch = "the default" if crop.batch_size == default else "twice the default: the GPU has room"
        choices = {"patch_size": Choice(crop.patch_size, why), "batch_size": Choice(crop.batch_size, batch)}
        return {name: self._kept(name, choice) for name, choice in choices.items()}

    def _needs(self, patch: Sequence[int], batch: int) -> Needs | None:
        """Return the memory of a training; None if the network cannot be run on the patches."""
        job = self.trial.memory({"patch_size": list(patch), "batch_size": batch})
        try:
            return job.by_place(job.step_bytes(), job.validation_bytes())
        except Exception as error:  # such as a size that the network cannot halve often enough
            logger.debug("patches of %s: %s", patch, first_line(error))
            return None

    def _time(self, chosen: Mapping[str, Choice]) -> tuple[Timing, dict[str, Choice]]:
        """Time a training; on a GPU, with the loader that gives it batches fast enough."""
        values = {name: choice.value for name, choice in chosen.items()}
        logger.info("timing a training on patches of %s", format_size(values["patch_size"]))
        names = ("num_workers", "augment_on_device")
        kept = {name: self.knobs[name] for name in names if name in self.given}
        timing = self.trial.time({**values, "num_workers": 0, "augment_on_device": False, **kept}, self.known)
        thread = "a thread of the training process augments while the network computes"
        loader = {"num_workers": Choice(0, thread), "augment_on_device": Choice(False, "the default")}
        if self.machine.has_gpu and not kept and not keeps_up(timing):
            timing, loader = self._faster_loader(values, timing, loader)
        return timing, {name: self._kept(name, choice) for name, choice in loader.items()}

    def _faster_loader(
        self, values: Mapping[str, Any], timing: Timing, loader: dict[str, Choice]
    ) -> tuple[Timing, dict[str, Choice]]:
        """Time worker processes and, if these cannot keep up either, augmentation on the GPU; return the fastest."""
        tried = [(timing, loader)]
        workers = workers_for(self.machine, timing)
        while workers and not shared_memory_fits(self.trial.memory({**values, "num_workers": workers}).shared_bytes()):
            workers -= 1
        if workers:
            reason = f"a core augments a case in {timing.augment:.2g} s, the GPU trains on it in {timing.step:.2g} s"
            settings = {"num_workers": Choice(workers, reason), "augment_on_device": loader["augment_on_device"]}
            tried.append((self.trial.time({**values, "num_workers": workers}, self.known), settings))
        if not keeps_up(tried[-1][0]):
            reason = "faster than the CPU cores, measured"
            settings = {"num_workers": Choice(0, "the GPU augments"), "augment_on_device": Choice(True, reason)}
            tried.append((self.trial.time({**values, "augment_on_device": True}, self.known), settings))
        return min(tried, key=lambda each: each[0].train)

    def _schedule(self, timing: Timing, hours: float | None) -> dict[str, Choice]:
        default = self.knobs["epochs"]
        if hours is None:
            epochs = self._kept("epochs", default_epochs(self.data, default))
        else:
            most = most_epochs(self.data, default)
            epochs = epochs_in(hours, most, lambda n: self.estimate(timing, n, self._interval(timing, n).value).run)
        return {"epochs": epochs, "val_interval": self._interval(timing, epochs.value)}

    def _interval(self, timing: Timing, epochs: int) -> Choice:
        one = self.estimate(timing, 1, 1)
        choice = choose_val_interval(epochs, one.epoch, one.validation, self.knobs["val_interval"])
        return self._kept("val_interval", choice)

    def _kept(self, name: str, choice: Choice) -> Choice:
        """Return the choice, or what the user gave instead."""
        return Choice(self.knobs[name], "as given") if name in self.given else choice
