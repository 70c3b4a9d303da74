"""One pass over a volume, normalised with the statistics of its windows."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn

from brats3d.errors import UsageError
from brats3d.networks.inferers import MAX_VOXELS, BrainInferer
from brats3d.networks.instance_norm import _windows, with_window_norms


def unet(**options) -> UNet:
    torch.manual_seed(0)
    given = {"norm": "INSTANCE", "act": "LEAKYRELU", "num_res_units": 2, **options}
    return UNet(3, 2, 3, channels=[4, 8, 8, 8, 8], strides=[2, 2, 2, 2], **given).eval()


def windows(roi: int = 32) -> SlidingWindowInferer:
    return SlidingWindowInferer(roi_size=(roi,) * 3, overlap=0.25, mode="gaussian")


def infer(network: nn.Module, image: torch.Tensor, window="brain") -> torch.Tensor:
    with torch.no_grad():
        return BrainInferer(windows(), window)(image, network)


@pytest.mark.parametrize("shape", [(32, 32, 32), (20, 31, 32), (9, 9, 9), (32, 32, 1), (1, 1, 1)])
def test_a_volume_that_fits_into_a_window_gets_the_same_logits(shape):
    network, image = with_window_norms(unet()), torch.randn(1, 2, *shape)
    out = infer(network, image)
    assert out.shape == (1, 3, *shape) and out.isfinite().all()
    assert torch.equal(out, infer(network, image, [32, 32, 32]))


@pytest.mark.parametrize("shape", [(40, 50, 33), (70, 32, 20), (100, 40, 1)])
def test_a_larger_volume_is_padded_and_passes_once(shape):
    network, seen = with_window_norms(unet()), []
    network.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape[2:])))
    image = torch.randn(1, 2, *shape)
    out = infer(network, image)
    assert out.shape == (1, 3, *shape) and out.isfinite().all()
    assert seen == [BrainInferer(windows()).pass_size(shape)]
    assert all(n % 16 == 0 and n >= own for n, own in zip(seen[0], shape, strict=True))


def test_a_padded_volume_reaches_the_network_channels_last_and_in_the_dtype_of_autocast():
    seen = []
    image = torch.randn(1, 2, 40, 50, 33)
    with torch.autocast("cpu", torch.bfloat16):
        infer(lambda padded: seen.append(padded) or padded.float(), image)
    assert seen[0].dtype == torch.bfloat16
    assert seen[0].is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(infer(lambda padded: padded, image), image)


def test_logits_are_closer_to_those_of_windows_than_with_statistics_of_the_whole_volume():
    """One half of the volume is much brighter than the other."""
    plain, made = unet(), with_window_norms(unet())
    image = torch.randn(1, 2, 80, 32, 32)
    image[:, :, 40:] = image[:, :, 40:] * 4 + 3
    windows = infer(made, image, [32, 32, 32])
    with torch.no_grad():
        whole = plain(image)
    assert (infer(made, image) - windows).abs().mean() < 0.5 * (whole - windows).abs().mean()


def test_a_window_with_a_size_gives_the_logits_of_monais_sliding_windows():
    network, image = with_window_norms(unet()), torch.randn(1, 2, 70, 50, 33)
    with torch.no_grad():
        monai = SlidingWindowInferer((48, 32, 32), overlap=0.25, mode="gaussian")(image, network)
    assert torch.equal(infer(network, image, [48, 32, 32]), monai)


def test_the_size_of_windows_is_that_of_the_knob_else_of_the_training_else_of_the_given_windows():
    given = windows()
    sizes = [
        BrainInferer(given, window, patch_size).roi_size((100, 100, 100))
        for window in ("brain", [64, 64, 64])
        for patch_size in (None, [48, 48, 48])
    ]
    assert sizes == [(32, 32, 32), (48, 48, 48), (64, 64, 64), (64, 64, 64)]
    assert vars(given) == vars(windows()), "the inferer that other tools load is unchanged"


def test_volumes_that_are_too_large_use_windows():
    inferer = BrainInferer(windows(128))
    assert inferer.pass_size((140, 175, 140)) == (144, 176, 144)
    assert inferer.pass_size((240, 240, 155)) == (240, 240, 160)
    assert inferer.pass_size((300, 300, 300)) is None
    assert inferer.pass_size((1000, 1000, 1)) is None  # padded to 128 slices
    assert 240 * 240 * 160 < MAX_VOXELS < 304**3
    assert BrainInferer(windows(), [32, 32, 32]).pass_size((40, 40, 40)) is None


def test_each_axis_has_its_own_overlap():
    inferer = BrainInferer(SlidingWindowInferer((32, 32, 32), overlap=(0.0, 0.5, 0.25), mode="gaussian"))
    seen = []
    with torch.no_grad():
        inferer(torch.randn(1, 1, 64, 64, 20), lambda image: seen.append(_windows.get()) or image)
    assert seen == [[(64, [(0, 32), (32, 64)]), (64, [(0, 32), (16, 48), (32, 64)]), (32, [(0, 32)])]]


@pytest.mark.parametrize("window", ["foo", "Brain", 128, None, [64, 64], [40, 48, 48], [16, 32, 32], [128.0] * 3, True])
def test_other_windows_are_refused(window):
    with pytest.raises(UsageError) as caught:
        BrainInferer(windows(), window)
    assert (caught.value.subject, caught.value.found) == ("window", window)


def test_a_volume_is_padded_to_what_the_network_needs():
    inferer = BrainInferer(windows(64), multiple=32)
    assert inferer.pass_size((140, 175, 140)) == (160, 192, 160)
    assert BrainInferer(windows(64)).pass_size((140, 175, 140)) == (144, 176, 144)


@pytest.mark.parametrize(("window", "patch_size"), [([48, 64, 64], None), ("brain", [48, 64, 64])])
def test_sizes_that_the_network_cannot_process_are_refused(window, patch_size):
    with pytest.raises(UsageError) as caught:
        BrainInferer(windows(64), window, patch_size, multiple=32)
    assert caught.value.subject == ("patch_size" if patch_size else "window")
    assert caught.value.found == [48, 64, 64]
