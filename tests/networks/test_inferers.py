"""One pass over a volume, normalised with the statistics of its windows."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn

from brats3d.errors import UsageError
from brats3d.networks.inferers import MAX_VOXELS, OnePassInferer, choose_inferer
from brats3d.networks.instance_norm import _windows, with_window_norms


def unet(**options) -> UNet:
    torch.manual_seed(0)
    given = {"norm": "INSTANCE", "act": "LEAKYRELU", "num_res_units": 2, **options}
    return UNet(3, 2, 3, channels=[4, 8, 8, 8, 8], strides=[2, 2, 2, 2], **given).eval()


def windows(roi: int = 32) -> SlidingWindowInferer:
    return SlidingWindowInferer(roi_size=(roi,) * 3, overlap=0.25, mode="gaussian")


def infer(network: nn.Module, image: torch.Tensor, one_pass: bool, roi: int = 32) -> torch.Tensor:
    with torch.no_grad():
        return choose_inferer(windows(roi), one_pass)(image, network)


@pytest.mark.parametrize("shape", [(32, 32, 32), (20, 31, 32), (9, 9, 9)])
def test_a_volume_that_fits_into_a_window_gets_the_same_logits(shape):
    network, image = with_window_norms(unet()), torch.randn(1, 2, *shape)
    assert torch.equal(infer(network, image, True), infer(network, image, False))


@pytest.mark.parametrize("shape", [(40, 50, 33), (70, 32, 20)])
def test_a_larger_volume_is_padded_and_passes_once(shape):
    network, seen = with_window_norms(unet()), []
    network.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape[2:])))
    image = torch.randn(1, 2, *shape)
    out = infer(network, image, True)
    assert out.shape == (1, 3, *shape) and out.isfinite().all()
    assert seen == [OnePassInferer(windows()).pass_size(shape)]
    assert all(n % 16 == 0 and n >= own for n, own in zip(seen[0], shape, strict=True))


def test_logits_are_closer_to_those_of_windows_than_with_statistics_of_the_whole_volume():
    """One half of the volume is much brighter than the other."""
    plain, made = unet(), with_window_norms(unet())
    image = torch.randn(1, 2, 80, 32, 32)
    image[:, :, 40:] = image[:, :, 40:] * 4 + 3
    windows = infer(made, image, False)
    with torch.no_grad():
        whole = plain(image)
    assert (infer(made, image, True) - windows).abs().mean() < 0.5 * (whole - windows).abs().mean()


def test_without_one_pass_the_inferer_is_monais():
    given = windows()
    assert choose_inferer(given, False) is given


def test_the_options_of_the_windows_are_kept():
    assert vars(choose_inferer(windows(), True)) == vars(windows())


def test_volumes_that_are_too_large_use_windows():
    inferer = OnePassInferer(windows(128))
    assert inferer.pass_size((140, 175, 140)) == (144, 176, 144)
    assert inferer.pass_size((240, 240, 155)) == (240, 240, 160)
    assert inferer.pass_size((300, 300, 300)) == (128, 128, 128)
    assert 240 * 240 * 160 < MAX_VOXELS < 304**3


def test_with_another_device_for_stitching_windows_are_used_and_a_warning_is_logged(log):
    network, image = with_window_norms(unet()), torch.randn(1, 2, 40, 50, 33)
    with torch.no_grad():
        result = OnePassInferer(windows())(image, network, device=torch.device("cpu:0"))  # differs from "cpu"
    assert torch.equal(result, infer(network, image, False))
    assert [r.message for r in log.records] == [
        "a volume of (40, 50, 33) voxels is stitched on cpu:0: using windows instead of one pass"
    ]


def test_each_axis_has_its_own_overlap():
    inferer = OnePassInferer(SlidingWindowInferer((32, 32, 32), overlap=(0.0, 0.5, 0.25), mode="gaussian"))
    seen = []
    with torch.no_grad():
        inferer(torch.randn(1, 1, 64, 64, 20), lambda image: seen.append(_windows.get()) or image)
    assert seen == [[(64, [(0, 32), (32, 64)]), (64, [(0, 32), (16, 48), (32, 64)]), (32, [(0, 32)])]]


def test_a_string_is_refused():
    with pytest.raises(UsageError) as caught:
        choose_inferer(windows(), "false")  # what "--one_pass false" becomes in a config; it would count as true
    assert (caught.value.subject, caught.value.found) == ("one_pass", "false")
