"""The default device: CUDA, then MPS if its convolutions are right, then the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from brats3d.networks import device_choice
from brats3d.networks.device_choice import convolutions_are_right, default_device


@pytest.mark.parametrize(
    ("cuda", "mps", "right", "expected"),
    [(True, True, True, "cuda"), (False, True, True, "mps"), (False, True, False, "cpu"), (False, False, True, "cpu")],
)
def test_the_default_is_a_gpu_whose_convolutions_are_right(monkeypatch, cuda, mps, right, expected) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(device_choice, "convolutions_are_right", lambda device: right)
    assert default_device() == torch.device(expected)


def test_wrong_convolutions_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert convolutions_are_right(cpu)
    right = functional.conv3d
    monkeypatch.setattr(functional, "conv3d", lambda x, w: right(x, w) * (1 if x.is_contiguous() else 2))
    assert not convolutions_are_right(cpu)


def test_a_device_without_3d_convolutions_is_not_used() -> None:
    assert not convolutions_are_right(torch.device("mps"))  # this PyTorch has none
