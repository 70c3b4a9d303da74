"""Where a volume is stitched, decided before it is begun."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer, SlidingWindowInfererAdapt
from torch import nn

from brats3d.inference.stitching import Stitcher, has_room
from brats3d.networks.memory_estimate import stitched_bytes

CPU = torch.device("cpu")
PLENTY = 10**12


class Spy(SlidingWindowInferer):
    """Notes where it is told to stitch, and runs out of memory as often as it is told to."""

    def __init__(self, failures: int = 0, error: Exception | None = None, **options) -> None:
        super().__init__(roi_size=(8, 8, 8), sw_batch_size=1, **options)
        self.failures, self.error = failures, error or torch.OutOfMemoryError("no memory")
        self.devices: list[object] = []

    def __call__(self, inputs, network, *args, **kwargs):
        self.devices.append(kwargs.get("device", "its own"))
        if len(self.devices) <= self.failures:
            raise self.error
        return super().__call__(inputs, network, *args, **kwargs)


def stitch(inferer, free, shape=(1, 1, 12, 8, 8), network=None):
    """On a device that says how much it has free; of this machine only the CPU can do the work."""
    network = network or nn.Conv3d(1, 3, 1)
    with torch.no_grad():
        return Stitcher(lambda device: free)(inferer, torch.randn(shape), network, network, torch.float32)


@pytest.mark.parametrize(
    ("shape", "roi", "expected"),
    [
        ((1, 4, 10, 10, 10), (8, 8, 8), 4 * 1000 * (3 + 1)),
        ((2, 4, 10, 10, 10), (8, 8, 8), 4 * 1000 * (2 * 3 + 1)),
        ((1, 4, 4, 10, 10), (8, 8, 8), 4 * 800 * (3 + 1)),
    ],
    ids=["one", "two share a map", "padded to the window"],
)
def test_a_stitched_volume_has_its_logits_and_one_map(shape, roi, expected):
    assert stitched_bytes(shape, roi, 3) == expected


@pytest.mark.parametrize(
    ("free", "stitched", "window", "room"),
    [
        (1000, 200, 700, True),  # 200 + 700 of 900
        (1000, 200, 701, False),
        (1000, 300, 10, True),  # 300 + 600: probabilities and regions after the last window
        (1000, 301, 10, False),
    ],
)
def test_there_is_room_if_a_tenth_stays_free(free, stitched, window, room):
    assert has_room(free, stitched, window) is room


def test_with_room_it_is_stitched_where_the_image_is():
    inferer = Spy()
    assert stitch(inferer, PLENTY).shape == (1, 3, 12, 8, 8)
    assert inferer.devices == [CPU]  # the image's


def test_without_room_it_is_stitched_in_main_memory_and_said_once(log):
    inferer, network = Spy(), nn.Conv3d(1, 3, 1)
    stitcher = Stitcher(lambda device: 10_000)
    with torch.no_grad():
        for _ in range(2):
            stitcher(inferer, torch.randn(1, 1, 12, 8, 8), network, network, torch.float32)
    assert [r.message.partition(":")[0] for r in log.records] == ["volumes are stitched in main memory"]


def test_a_window_counts_as_the_network_says(log):
    """Of 85 MB 8.5 stay free and 63 are the CPU's own: room for a window's 16 channels, not for 8192 (25 MB)."""
    for channels, told in ((16, 0), (8192, 1)):
        log.clear()
        stitch(Spy(), 85 * 10**6, network=nn.Sequential(nn.Conv3d(1, channels, 1), nn.Conv3d(channels, 3, 1)))
        assert len(log.records) == told


def test_what_an_inferer_gives_the_network_at_once_is_what_counts(log):
    class Whole(Spy):
        def pass_size(self, shape):
            return 64, 64, 64

    for inferer, told in ((Spy(), 0), (Whole(), 1)):  # 64 channels: 0.1 MB of a window of 8³, 67 MB of 64³
        log.clear()
        stitch(inferer, 85 * 10**6, network=nn.Sequential(nn.Conv3d(1, 64, 1), nn.Conv3d(64, 3, 1)))
        assert len(log.records) == told


def test_a_case_that_runs_out_of_memory_is_begun_again_in_main_memory(log):
    inferer = Spy(failures=1)
    assert stitch(inferer, PLENTY).shape == (1, 3, 12, 8, 8)
    assert inferer.devices == [CPU, CPU]
    assert "begun again and stitched in main memory" in log.text


def test_also_where_monai_has_wrapped_the_error():
    wrapped = RuntimeError("Seems to be OOM")
    wrapped.__cause__ = torch.OutOfMemoryError("no memory")
    inferer = Spy(failures=1, error=wrapped)
    assert stitch(inferer, PLENTY).shape == (1, 3, 12, 8, 8)


@pytest.mark.parametrize(("failures", "free"), [(2, PLENTY), (1, 10)], ids=["twice", "in main memory already"])
def test_that_is_tried_once(failures, free):
    with pytest.raises(torch.OutOfMemoryError):
        stitch(Spy(failures=failures), free)


def test_other_errors_are_not_tried_again():
    inferer = Spy(failures=1, error=RuntimeError("sizes differ"))
    with pytest.raises(RuntimeError, match="sizes differ"):
        stitch(inferer, PLENTY)
    assert len(inferer.devices) == 1


@pytest.mark.parametrize("options", [{"device": CPU}, {"cpu_thresh": 5}], ids=str)
def test_an_inferer_with_a_rule_of_its_own_is_left_alone(options):
    inferer = Spy(**options)
    stitch(inferer, 10)
    assert inferer.devices == ["its own"]


def test_so_are_other_inferers():
    for inferer in (SimpleInferer(), SlidingWindowInfererAdapt(roi_size=(8, 8, 8), sw_batch_size=1)):
        assert stitch(inferer, 10).shape == (1, 3, 12, 8, 8)


def test_on_a_cpu_nothing_is_decided():
    inferer, network = Spy(), nn.Conv3d(1, 3, 1)
    with torch.no_grad():
        Stitcher()(inferer, torch.randn(1, 1, 12, 8, 8), network, network, torch.float32)
    assert inferer.devices == ["its own"]


def test_a_network_that_needs_values_is_stitched_all_the_same():
    class Looking(nn.Conv3d):
        def forward(self, x):
            return super().forward(x) * float(x.mean().item() > 0)

    assert stitch(Spy(), PLENTY, network=Looking(1, 3, 1)).shape == (1, 3, 12, 8, 8)
