"""Average the probabilities of several passes over a volume: those of an ensemble's members, and those of its flips.

Probabilities are averaged, not logits, as in nnU-Net: Isensee et al., Nature Methods 18, 2021. The networks of an
ensemble are loaded one after another into one, so that memory does not depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from brats3d.networks import check_flag, checkpoint_members, load_member

FLIPS: tuple[tuple[int, ...], ...] = ((), (2,))
"""Axes of an image (B, C, H, W, D) to flip in each pass of test-time augmentation: none, then left-right (the network
gets LPS). Flips of the other axes cost more time and gain nothing (benchmarks/tta.py)."""

SMALLEST_PROBABILITY = 1e-7
"""Averages are limited to this and to 1 minus this, so that their logits are finite."""


class Averaging:
    """Predict a volume as the mean over passes: over the members of an ensemble and, with ``tta``, over flips.

    Args:
        checkpoint: a file, the folder of an ensemble, or None. Only the members of an ensemble are loaded here; the
            network must already have any other weights.
        modalities: the sequences of the network's input channels.
        tta: test-time augmentation by :data:`FLIPS`.
        on_pass: called after each pass with its probabilities, float32 (B, C, H, W, D), in the orientation of the
            volume. It must not change or keep them.

    Raises:
        UsageError: if ``tta`` is not a bool.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        modalities: Sequence[str] = (),
        tta: bool = False,
        on_pass: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.modalities = modalities
        self.flips = FLIPS if check_flag("tta", tta) else FLIPS[:1]
        self.on_pass = on_pass

    @cached_property
    def members(self) -> list[Path]:
        """The checkpoints; empty for random weights."""
        return [] if self.checkpoint is None else checkpoint_members(self.checkpoint)

    def __call__(
        self, predict: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, network: nn.Module
    ) -> torch.Tensor:
        """Return the logits of the mean probabilities, (B, C, H, W, D); those of a single pass as they are.

        Args:
            predict: returns the logits of a volume, float32.
            image: the volume, shape (B, C, H, W, D).
            network: the network behind ``predict``, which receives the weights of the members.

        Raises:
            NotFoundError, UsageError, DataError: if a member has been removed or changed since the run started.
        """
        members = self.members if len(self.members) > 1 else [None]
        if len(members) * len(self.flips) == 1 and self.on_pass is None:
            return predict(image)
        mean: torch.Tensor | None = None
        for member in members:
            if member is not None:
                load_member(network, member, self.modalities)
            for axes in self.flips:
                # No second name for the logits: they would stay in memory during the next pass.
                probabilities = predict(image.flip(axes) if axes else image).sigmoid_().flip(axes)
                if self.on_pass is not None:
                    self.on_pass(probabilities)
                mean = probabilities if mean is None else mean.add_(probabilities.to(mean.device))
                del probabilities
        assert mean is not None  # there is at least one pass
        return mean.div_(len(members) * len(self.flips)).logit_(eps=SMALLEST_PROBABILITY)
