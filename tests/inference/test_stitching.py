"""The device on which a volume is stitched."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer, SlidingWindowInfererAdapt
from torch import nn

from brats3d.inference.stitching import Stitcher
from brats3d.networks.inferers import BrainInferer
from brats3d.networks.memory_estimate import stitched_bytes

CPU = torch.device("cpu")
PLENTY = 10**12


class Spy(SlidingWindowInferer):
    """An inferer that notes the device it is called with, and fails a number of times."""

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
    """Stitch on the CPU, pretending that ``free`` bytes are left."""
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
def test_a_stitched_volume_holds_its_logits_and_one_importance_map(shape, roi, expected):
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
def test_a_volume_fits_if_a_tenth_stays_free(free, stitched, window, room, monkeypatch, log):
    monkeypatch.setattr("brats3d.inference.stitching.stitched_bytes", lambda *sizes: stitched)
    monkeypatch.setattr(Stitcher, "_window", lambda *arguments: (window, 3))
    stitch(Spy(), free)
    assert bool(log.records) is not room


def test_a_volume_that_fits_is_stitched_on_the_device_of_the_image():
    inferer = Spy()
    assert stitch(inferer, PLENTY).shape == (1, 3, 12, 8, 8)
    assert inferer.devices == [CPU]  # the image's


def test_volumes_that_do_not_fit_are_stitched_in_main_memory_and_logged_once(log):
    inferer, network = Spy(), nn.Conv3d(1, 3, 1)
    stitcher = Stitcher(lambda device: 10_000)
    with torch.no_grad():
        for _ in range(2):
            stitcher(inferer, torch.randn(1, 1, 12, 8, 8), network, network, torch.float32)
    assert [r.message.partition(":")[0] for r in log.records] == ["stitching volumes in main memory"]


def test_the_memory_of_a_window_depends_on_the_network(log):
    """Of 85 MB, 8.5 stay free and 63 are a constant of the CPU: 16 channels of a window fit, 8192 (25 MB) do not."""
    for channels, logged in ((16, 0), (8192, 1)):
        log.clear()
        stitch(Spy(), 85 * 10**6, network=nn.Sequential(nn.Conv3d(1, channels, 1), nn.Conv3d(channels, 3, 1)))
        assert len(log.records) == logged


def brain_inferer(window="brain", **options) -> BrainInferer:
    inferer = BrainInferer(Spy(**options), window)
    inferer.windows.devices = inferer.devices = []
    return inferer


def test_a_brain_that_fits_passes_once(log):
    inferer = brain_inferer()
    assert stitch(inferer, PLENTY, (1, 1, 20, 40, 17)).shape == (1, 3, 20, 40, 17)
    assert inferer.devices == []
    assert [(r.levelname, r.args) for r in log.records] == [("INFO", ((8, 8, 8),))]


def test_a_brain_that_does_not_fit_goes_through_windows_and_a_warning_with_the_numbers_is_logged_once(log):
    """64 channels take 0.1 MB in a window of 8³, 38 MB in a brain of 48³; 63 MB are a constant of the CPU."""
    inferer, network = brain_inferer(), nn.Sequential(nn.Conv3d(1, 64, 1), nn.Conv3d(64, 3, 1))
    stitcher = Stitcher(lambda device: 80 * 10**6)
    with torch.no_grad():
        for _ in range(2):
            assert stitcher(inferer, torch.randn(1, 1, 48, 48, 48), network, network, torch.float32).shape[2] == 48
    assert inferer.devices == [CPU, CPU]
    (record,) = log.records
    assert record.levelname == "WARNING"
    shape, roi, reason = record.args
    assert (shape, roi) == ((48, 48, 48), (8, 8, 8)) and "0.1 GiB are free on cpu" in reason


def test_on_a_cpu_a_brain_is_compared_with_the_free_main_memory(monkeypatch, log):
    monkeypatch.setattr("brats3d.inference.stitching.free_memory", lambda: 10**6)
    inferer, network = brain_inferer(), nn.Conv3d(1, 3, 1)
    with torch.no_grad():
        Stitcher()(inferer, torch.randn(1, 1, 20, 20, 20), network, network, torch.float32)
    assert inferer.devices == ["its own"] and [r.levelname for r in log.records] == ["WARNING"]


def test_a_volume_above_the_limit_of_one_pass_goes_through_windows_and_a_warning_is_logged(monkeypatch, log):
    monkeypatch.setattr("brats3d.networks.inferers.MAX_VOXELS", 1000)
    inferer = brain_inferer()
    stitch(inferer, PLENTY, (1, 1, 20, 20, 20))
    assert inferer.devices == [CPU]
    assert [(r.levelname, r.args[:2]) for r in log.records] == [("WARNING", ((20, 20, 20), (8, 8, 8)))]


def test_sliding_windows_that_were_asked_for_log_no_warning(log):
    inferer = brain_inferer([32, 32, 32])
    assert stitch(inferer, PLENTY, (1, 1, 40, 20, 20)).shape == (1, 3, 40, 20, 20)
    assert inferer.devices == [CPU] and [(r.levelname, r.args) for r in log.records] == [("INFO", ((32, 32, 32),))]


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("no memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["GPU", "CPU"])
def test_a_brain_that_runs_out_of_memory_is_repeated_with_windows(error, log):
    class Hungry(nn.Conv3d):
        def forward(self, x):
            if x.shape[2] > 8:
                raise error
            return super().forward(x)

    inferer = brain_inferer()
    assert stitch(inferer, PLENTY, network=Hungry(1, 3, 1)).shape == (1, 3, 12, 8, 8)
    assert inferer.devices == [CPU]
    assert "repeating the case with sliding windows" in log.text


def test_a_case_that_runs_out_of_memory_is_repeated_in_main_memory(log):
    inferer = Spy(failures=1)
    assert stitch(inferer, PLENTY).shape == (1, 3, 12, 8, 8)
    assert inferer.devices == [CPU, CPU]
    assert "repeating the case, stitched in main memory" in log.text


def test_an_error_that_monai_wrapped_is_recognised():
    wrapped = RuntimeError("Seems to be OOM")
    wrapped.__cause__ = torch.OutOfMemoryError("no memory")
    inferer = Spy(failures=1, error=wrapped)
    assert stitch(inferer, PLENTY).shape == (1, 3, 12, 8, 8)


@pytest.mark.parametrize(("failures", "free"), [(2, PLENTY), (1, 10)], ids=["twice", "in main memory already"])
def test_a_case_is_repeated_only_once(failures, free):
    with pytest.raises(torch.OutOfMemoryError):
        stitch(Spy(failures=failures), free)


def test_other_errors_are_raised():
    inferer = Spy(failures=1, error=RuntimeError("sizes differ"))
    with pytest.raises(RuntimeError, match="sizes differ"):
        stitch(inferer, PLENTY)
    assert len(inferer.devices) == 1


@pytest.mark.parametrize("options", [{"device": CPU}, {"cpu_thresh": 5}], ids=str)
def test_an_inferer_with_its_own_rule_is_called_unchanged(options):
    inferer = Spy(**options)
    stitch(inferer, 10)
    assert inferer.devices == ["its own"]


def test_other_inferers_are_called_unchanged():
    for inferer in (SimpleInferer(), SlidingWindowInfererAdapt(roi_size=(8, 8, 8), sw_batch_size=1)):
        assert stitch(inferer, 10).shape == (1, 3, 12, 8, 8)


def test_on_a_cpu_the_inferer_is_called_unchanged():
    inferer, network = Spy(), nn.Conv3d(1, 3, 1)
    with torch.no_grad():
        Stitcher()(inferer, torch.randn(1, 1, 12, 8, 8), network, network, torch.float32)
    assert inferer.devices == ["its own"]


def test_a_network_that_depends_on_values_is_stitched():
    class Looking(nn.Conv3d):
        def forward(self, x):
            return super().forward(x) * float(x.mean().item() > 0)

    assert stitch(Spy(), PLENTY, network=Looking(1, 3, 1)).shape == (1, 3, 12, 8, 8)
