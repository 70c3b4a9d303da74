"""Tensors that fit a network: compared by name and shape, cut to fewer sequences, finite."""

from __future__ import annotations

import itertools

import pytest
import torch
from monai.networks.nets import SegResNet, UNet
from torch import nn

from brats3d.labels import MODALITIES
from brats3d.networks.fit_weights import fit_weights

SUBSETS = [s for n in range(1, 5) for s in itertools.combinations(MODALITIES, n)]


def unet(in_channels: int = 4, channels=(4, 8, 4)) -> UNet:
    """As in train.yaml, but small; some of its layers have as many channels as there are sequences."""
    options = {"num_res_units": 2, "norm": "INSTANCE", "act": "LEAKYRELU"}
    return UNet(3, in_channels, 3, channels=channels, strides=(2, 2), **options).eval()


def segresnet(in_channels: int = 4) -> SegResNet:
    return SegResNet(in_channels=in_channels, out_channels=3, init_filters=8, blocks_down=(1, 1), blocks_up=(1,)).eval()


def refused(weights, network: nn.Module, known=MODALITIES, wanted=MODALITIES) -> str:
    with pytest.raises(ValueError) as error:
        fit_weights(weights, network, known, wanted)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("make", [unet, segresnet])
@pytest.mark.parametrize("wanted", SUBSETS, ids="+".join)
def test_a_network_cut_to_some_sequences_answers_as_the_whole_one_does_where_the_others_are_zero(make, wanted):
    torch.manual_seed(0)
    whole, cut = make(), make(len(wanted))
    cut.load_state_dict(fit_weights(whole.state_dict(), cut, MODALITIES, wanted))
    image = torch.randn(1, 4, 16, 16, 16)
    present = [MODALITIES.index(m) for m in wanted]
    zeroed = torch.zeros_like(image)
    zeroed[:, present] = image[:, present]
    with torch.no_grad():
        torch.testing.assert_close(cut(image[:, present]), whole(zeroed), rtol=1e-4, atol=1e-5)
        if len(wanted) < 4:
            assert not torch.allclose(whole(zeroed), whole(image), atol=1e-2)


def test_only_what_reads_the_image_is_cut():
    whole, cut = unet(), unet(2)
    fitted = fit_weights(whole.state_dict(), cut, MODALITIES, ["t1ce", "flair"])
    changed = {
        name
        for name, value in whole.state_dict().items()
        if fitted[name] is not value and value.shape != fitted[name].shape
    }
    assert changed == {"model.0.conv.unit0.conv.weight", "model.0.residual.weight"}
    for name in changed:
        assert torch.equal(fitted[name], whole.state_dict()[name][:, [1, 3]])


def test_weights_of_more_sequences_are_not_made():
    name = "model.0.conv.unit0.conv.weight"
    assert refused(unet(3).state_dict(), unet(4), MODALITIES[:3]) == (
        f"{name} has shape (4, 3, 3, 3, 3), the network's (4, 4, 3, 3, 3)"
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("half", [False, True])
def test_weights_that_are_not_finite_are_refused(bad, half):
    weights = {name: value.half() if half else value.clone() for name, value in unet().state_dict().items()}
    weights["model.0.conv.unit1.conv.bias"][:2] = bad
    assert refused(weights, unet()) == "model.0.conv.unit1.conv.bias holds 2 values that are NaN or infinite"


def test_missing_and_unknown_parameters_are_named():
    weights = unet().state_dict()
    first = next(iter(weights))
    assert refused({k: v for k, v in weights.items() if k != first}, unet()) == f"lacks {first}"
    assert refused({}, unet()).startswith(f"lacks {first} and ")
    assert refused({**weights, "extra": torch.zeros(1)}, unet()) == "the network has no extra"


@pytest.mark.parametrize(("weights", "kind"), [([], "list"), ({"a": 1}, "a as int"), ({"epoch": "x"}, "epoch as str")])
def test_what_is_no_tensor_is_refused(weights, kind):
    assert refused(weights, unet()) == f"expected tensors by name, got {kind}"
