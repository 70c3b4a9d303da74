"""Weights that fit a network are loaded, reduced to fewer sequences if they allow it, and others refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from monai.networks.nets import MedNeXt, SegResNet, UNet
from torch import nn

from brats3d.errors import DataError, UsageError
from brats3d.labels import MODALITIES
from brats3d.networks.checkpoint_card import describe_network
from brats3d.networks.checkpoint_file import save_checkpoint
from brats3d.networks.load_weights import fit_weights, load_weights

FOUR = list(MODALITIES)
SUBSETS = [s for n in range(1, 5) for s in itertools.combinations(MODALITIES, n)]


def unet(in_channels: int = 4, channels=(4, 8), **options) -> UNet:
    return UNet(3, in_channels, 3, channels=channels, strides=(2,) * (len(channels) - 1), **options)


def train_unet(in_channels: int = 4) -> UNet:
    """A smaller network of train.yaml's kind; some of its layers have as many channels as there are sequences."""
    options = {"num_res_units": 2, "norm": "INSTANCE", "act": "LEAKYRELU"}
    return unet(in_channels, (4, 8, 4), **options).eval()


def segresnet(in_channels: int = 4) -> SegResNet:
    return SegResNet(in_channels=in_channels, out_channels=3, init_filters=8, blocks_down=(1, 1), blocks_up=(1,)).eval()


def card_of(network: nn.Module, modalities=FOUR) -> dict:
    regions = ["TC", "WT", "ET"]
    return {"modalities": list(modalities), "regions": regions, "network_def": describe_network(network), "epoch": 7}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, UNet]:
    """A checkpoint of a small network of four sequences, and the network."""
    network = unet()
    save_checkpoint(tmp_path / "best.pt", network.state_dict(), card_of(network))
    return tmp_path / "best.pt", network


@pytest.fixture
def reducible(saved) -> tuple[Path, UNet]:
    """Like ``saved``, with weights that support absent sequences."""
    path, network = saved
    save_checkpoint(path, network.state_dict(), {**card_of(network), "absent_sequences": True})
    return path, network


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def refusal(network: nn.Module, path: Path, modalities=FOUR, kind: type[Exception] = UsageError) -> str:
    """Return the problem that loading reports."""
    with pytest.raises(kind) as error:
        load_weights(network, path, modalities)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return error.value.problem


# --- loading


def test_weights_are_loaded_as_they_were_saved(saved):
    path, network = saved
    other = unet()
    assert not same(network, other)
    assert load_weights(other, path, FOUR) == card_of(network)
    assert same(network, other)


def test_modalities_can_have_any_order_and_any_releases_names(saved):
    assert load_weights(unet(), saved[0], ["t2f", "t1n", "t2w", "t1c"])["epoch"] == 7


def test_no_checkpoint_loads_nothing():
    network, before = unet(), unet()
    before.load_state_dict(network.state_dict())
    assert load_weights(network, None, FOUR) == {}
    assert same(network, before)


def test_half_precision_weights_load_into_a_network_of_full_precision(saved):
    path, network = saved
    save_checkpoint(path, {k: v.half() for k, v in network.state_dict().items()}, card_of(network))
    other = unet()
    load_weights(other, path, FOUR)
    for name, value in other.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, network.state_dict()[name].half().float())


def test_the_state_of_a_run_has_weights_too(saved):
    path, network = saved
    save_checkpoint(path.with_name("last.pt"), {"network": network.state_dict(), "epoch": 3}, card_of(network))
    other = unet()
    load_weights(other, path.with_name("last.pt"), FOUR)
    assert same(network, other)


# --- fewer sequences


@pytest.mark.parametrize("modalities", [["t1", "t2", "flair"], ["flair", "t1ce"], ["t2"]], ids=str)
def test_weights_that_support_absent_sequences_load_into_a_network_of_fewer(reducible, modalities, log):
    path, whole = reducible
    reduced = unet(len(modalities))
    assert load_weights(reduced, path, modalities)["modalities"] == FOUR
    present = [i for i, m in enumerate(FOUR) if m in modalities]
    image = torch.randn(1, 4, 8, 8, 8)
    zeroed = torch.zeros_like(image)
    zeroed[:, present] = image[:, present]
    torch.testing.assert_close(reduced.eval()(image[:, present]), whole.eval()(zeroed), rtol=1e-4, atol=1e-5)
    assert len(log.messages) == 2 and f"reduced to {', '.join(FOUR[i] for i in present)}" in log.text


def test_weights_that_support_absent_sequences_load_with_all_of_them(reducible, log):
    other = unet()
    load_weights(other, reducible[0], FOUR)
    assert same(other, reducible[1])
    assert "reduced" not in log.text


@pytest.mark.parametrize("more", [{}, {"absent_sequences": False}], ids=str)
def test_weights_that_need_all_sequences_are_not_reduced(saved, more):
    path, network = saved
    save_checkpoint(path, network.state_dict(), {**card_of(network), **more})
    assert "modalities" in refusal(unet(1), path, ["t1"])


@pytest.mark.parametrize("wanted", [FOUR, ["t1", "t1ce"], ["t1ce"]], ids=str)
def test_more_or_other_sequences_are_refused(reducible, wanted):
    path, _ = reducible
    save_checkpoint(path, unet(2).state_dict(), {**card_of(unet(2), ["t1", "flair"]), "absent_sequences": True})
    assert "has modalities ['t1', 'flair']" in refusal(unet(len(wanted)), path, wanted)


def test_another_network_of_fewer_sequences_is_refused(reducible):
    problem = refusal(unet(1, (4, 16)), reducible[0], ["t1"])
    assert "{'channels': [4, 8]}" in problem and "{'channels': [4, 16]}" in problem


@pytest.mark.parametrize("make", [train_unet, segresnet])
@pytest.mark.parametrize("wanted", SUBSETS, ids="+".join)
def test_a_reduced_network_gives_the_output_of_the_whole_one_with_zeros(make, wanted):
    torch.manual_seed(0)
    whole, reduced = make(), make(len(wanted))
    reduced.load_state_dict(fit_weights(whole.state_dict(), reduced, MODALITIES, wanted))
    image = torch.randn(1, 4, 16, 16, 16)
    present = [MODALITIES.index(m) for m in wanted]
    zeroed = torch.zeros_like(image)
    zeroed[:, present] = image[:, present]
    with torch.no_grad():
        torch.testing.assert_close(reduced(image[:, present]), whole(zeroed), rtol=1e-4, atol=1e-5)
        if len(wanted) < 4:
            assert not torch.allclose(whole(zeroed), whole(image), atol=1e-2)


def test_only_parameters_that_read_the_image_are_reduced():
    whole = train_unet().state_dict()
    fitted = fit_weights(whole, train_unet(2), MODALITIES, ["t1ce", "flair"])
    changed = {name for name, value in whole.items() if value.shape != fitted[name].shape}
    assert changed == {"model.0.conv.unit0.conv.weight", "model.0.residual.weight"}
    for name in changed:
        assert torch.equal(fitted[name], whole[name][:, [1, 3]])


# --- weights that do not fit


def test_a_model_of_other_sequences_of_the_same_number_is_refused(saved):
    path, _ = saved
    save_checkpoint(path, unet(3).state_dict(), card_of(unet(3), ["t1", "t1ce", "flair"]))
    with pytest.raises(UsageError) as error:
        load_weights(unet(3), path, ["t1", "t2", "flair"])
    assert "['t1', 't1ce', 'flair']" in error.value.problem and "--modalities" in error.value.advice


@pytest.mark.parametrize(
    ("options", "known", "wanted"),
    [
        ({"channels": (4, 16)}, "{'channels': [4, 8]}", "{'channels': [4, 16]}"),
        ({"num_res_units": 1}, "{'num_res_units': 0}", "{'num_res_units': 1}"),
        ({"act": "RELU"}, "{'act': 'PRELU'}", "{'act': 'RELU'}"),
    ],
    ids=str,
)
def test_another_network_is_refused_with_what_differs(saved, options, known, wanted):
    problem = refusal(unet(**options), saved[0])
    assert f"has network_def {known}, this run has {wanted}" in problem


def test_weights_that_differ_from_their_own_card_are_refused(saved):
    path, network = saved
    save_checkpoint(path, unet(channels=(4, 16)).state_dict(), card_of(network))
    assert "do not fit" in refusal(unet(), path, kind=DataError)


@pytest.mark.parametrize("content", [{"network": [1]}, {"network": {"a": 1}}, {}, {"epoch": 3}], ids=str)
def test_a_checkpoint_without_weights_is_refused(saved, content):
    path, network = saved
    torch.save(content, path)
    refusal(network, path, kind=DataError)


def test_weights_of_a_terabyte_made_of_one_number_are_refused(saved):
    path, network = saved
    name, *_ = network.state_dict()
    torch.save({**network.state_dict(), name: torch.zeros(1).expand(10**13)}, path)
    assert "(10000000000000,)" in refusal(network, path, kind=DataError)


def test_weights_that_are_not_finite_are_refused_and_leave_the_network_unchanged(saved):
    path, network = saved
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    weights["model.0.conv.bias"][0] = float("nan")
    save_checkpoint(path, weights, card_of(network))
    other, before = unet(), unet()
    before.load_state_dict(other.state_dict())
    assert "model.0.conv.bias has 1 values that are NaN" in refusal(other, path, kind=DataError)
    assert same(other, before)


def refused(weights, network: nn.Module, known=MODALITIES, wanted=MODALITIES) -> str:
    with pytest.raises(ValueError) as error:
        fit_weights(weights, network, known, wanted)
    return str(error.value)


def test_weights_of_fewer_sequences_are_refused():
    name = "model.0.conv.unit0.conv.weight"
    assert refused(train_unet(3).state_dict(), train_unet(4), MODALITIES[:3]).startswith(name)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("half", [False, True])
def test_values_that_are_not_finite_are_counted(bad, half):
    weights = {name: value.half() if half else value.clone() for name, value in unet().state_dict().items()}
    weights["model.0.conv.bias"][:2] = bad
    assert refused(weights, unet()) == "model.0.conv.bias has 2 values that are NaN or infinite"


def test_missing_and_unknown_parameters_are_named():
    weights = unet().state_dict()
    first = next(iter(weights))
    assert refused({k: v for k, v in weights.items() if k != first}, unet()) == f"{first} is missing"
    assert refused({}, unet()).startswith(f"{first} and ")
    assert refused({**weights, "extra": torch.zeros(1)}, unet()) == "extra is unknown to the network"


@pytest.mark.parametrize(("weights", "kind"), [([], "list"), ({"a": 1}, "a as int"), ({"epoch": "x"}, "epoch as str")])
def test_values_that_are_not_tensors_are_refused(weights, kind):
    assert refused(weights, unet()) == f"expected tensors by name, got {kind}"


# --- other networks


def mednext(**options) -> MedNeXt:
    return MedNeXt(3, 2, 4, 3, kernel_size=3, blocks_down=[1, 1], blocks_up=[1, 1], **options)


def test_weights_of_another_class_of_network_are_refused_with_the_advice_to_use_its_overlay(tmp_path):
    network = mednext()
    save_checkpoint(tmp_path / "best.pt", network.state_dict(), card_of(network))
    with pytest.raises(UsageError) as error:
        load_weights(unet(), tmp_path / "best.pt", FOUR)
    assert "{'class': 'monai.networks.nets.mednext.MedNeXt'}, this run has {'class': " in error.value.problem
    assert all(word in error.value.advice for word in ("networks/", "--config ", "--config_file"))


def test_weights_of_another_network_of_the_same_class_are_refused_even_if_its_attributes_do_not_tell(tmp_path):
    network, other = mednext(), mednext(use_residual_connection=True)
    assert describe_network(network) == describe_network(other)
    save_checkpoint(tmp_path / "best.pt", network.state_dict(), card_of(network))
    assert "do not fit the network" in refusal(other, tmp_path / "best.pt", kind=DataError)
