"""Means over flips and over the members of an ensemble, against the same means computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn

from brats3d.errors import NotFoundError, UsageError
from brats3d.inference import Averaging, EvalStep
from brats3d.inference.averaging import FLIPS
from brats3d.networks import (
    BrainInferer,
    checkpoint_members,
    load_weights,
    precision,
    save_checkpoint,
    with_window_norms,
    write_ensemble,
)
from brats3d.networks.checkpoint_card import describe_network

MODALITIES = ["t1", "flair"]
WINDOWS = SlidingWindowInferer((16, 16, 16), overlap=0.25, mode="gaussian")


def unet(seed: int = 0, in_channels: int = 2) -> UNet:
    torch.manual_seed(seed)
    return UNet(3, in_channels, 3, channels=(4, 8), strides=(2,), num_res_units=1, norm="INSTANCE").eval()


@pytest.fixture
def ensemble(tmp_path: Path) -> Path:
    """Three networks of the same shape, which support absent sequences."""
    members = []
    for fold in range(3):
        network = unet(seed=fold)
        members.append(tmp_path / "runs" / f"fold{fold}.pt")
        card = {"modalities": MODALITIES, "regions": ["TC", "WT", "ET"], "network_def": describe_network(network)}
        save_checkpoint(members[-1], network.state_dict(), {**card, "absent_sequences": True})
    write_ensemble(tmp_path / "runs", members)
    return tmp_path / "runs"


def image_of(shape: tuple[int, int, int] = (20, 18, 16), channels: int = 2) -> MetaTensor:
    image = torch.randn(1, channels, *shape, generator=torch.Generator().manual_seed(7))
    return MetaTensor(image, affine=torch.diag(torch.tensor([-1.0, -1.0, 2.0, 1.0], dtype=torch.float64)))


def logits_of(
    network: nn.Module,
    averaging: Averaging | None,
    inferer: Inferer,
    image: MetaTensor | None = None,
    amp: bool = False,
) -> MetaTensor:
    """Return the logits of the evaluator, the way a run computes them."""
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[{"image": image_of() if image is None else image}],
        network=network,
        inferer=inferer,
        iteration_update=EvalStep(amp=amp, averaging=averaging),
        decollate=False,
    )
    evaluator.run()
    return evaluator.state.output["pred"]


@pytest.mark.parametrize(
    "inferer",
    [SimpleInferer(), WINDOWS, BrainInferer(WINDOWS, patch_size=(16, 16, 16)), BrainInferer(WINDOWS, (32, 32, 32))],
    ids=["plain", "windows", "one pass", "windows of a brain"],
)
def test_flips_are_averaged_as_probabilities_in_the_orientation_of_the_image(inferer):
    network = with_window_norms(unet())
    passes = [logits_of(network, None, inferer, image_of().flip(axes)).flip(axes).sigmoid() for axes in FLIPS]
    averaged = logits_of(network, Averaging(tta=True), inferer)
    torch.testing.assert_close(averaged.sigmoid(), sum(passes) / len(passes))
    assert averaged.dtype == torch.float32
    assert (passes[0] - averaged.sigmoid()).abs().max() > 0.01, "the flips would prove nothing"


def test_a_mirrored_image_has_the_mirrored_prediction_with_flips_only():
    network, image = with_window_norms(unet()), image_of()
    for tta in (True, False):
        here, there = (logits_of(network, Averaging(tta=tta), WINDOWS, each) for each in (image, image.flip(2)))
        assert torch.allclose(here, there.flip(2), atol=1e-4) is tta


@pytest.mark.parametrize("amp", [True, False])
@pytest.mark.parametrize("tta", [True, False])
def test_the_members_of_an_ensemble_are_averaged_as_probabilities(ensemble, monkeypatch, amp, tta):
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: True)
    inferer = BrainInferer(WINDOWS, patch_size=(16, 16, 16))
    each = [
        logits_of(with_window_norms(unet(seed=fold)), Averaging(tta=tta), inferer, amp=amp).sigmoid()
        for fold in range(3)
    ]
    network = with_window_norms(unet(seed=9))
    load_weights(network, ensemble, MODALITIES)
    for _ in range(2):  # the second case starts with the last member in the network
        averaged = logits_of(network, Averaging(ensemble, MODALITIES, tta=tta), inferer, amp=amp)
        torch.testing.assert_close(averaged.sigmoid(), sum(each) / 3)
    assert (each[0] - each[1]).abs().max() > 0.05


def test_the_mean_keeps_the_affine_of_the_image():
    averaged = logits_of(unet(), Averaging(tta=True), WINDOWS)
    assert torch.equal(averaged.affine, image_of().affine)


def test_an_ensemble_is_reduced_to_fewer_sequences_as_its_members_are(ensemble):
    networks = [unet(in_channels=1) for _ in range(3)]
    for network, member in zip(networks, checkpoint_members(ensemble), strict=True):
        load_weights(network, member, ["flair"])
    image = image_of(channels=1)
    each = [logits_of(network, None, WINDOWS, image).sigmoid() for network in networks]
    averaged = logits_of(unet(in_channels=1), Averaging(ensemble, ["flair"]), WINDOWS, image)
    torch.testing.assert_close(averaged.sigmoid(), sum(each) / 3)


@pytest.mark.parametrize("folder", [True, False], ids=["ensemble of one", "file"])
def test_one_network_without_flips_gives_its_own_logits_bit_for_bit(ensemble, folder):
    member = checkpoint_members(ensemble)[1]
    if folder:
        write_ensemble(ensemble, [member])
    expected = logits_of(unet(seed=1), None, WINDOWS)
    averaging = Averaging(ensemble if folder else member, MODALITIES)
    assert torch.equal(logits_of(unet(seed=1), averaging, WINDOWS), expected)


def test_certain_passes_have_finite_logits():
    network = nn.Conv3d(2, 3, 1)
    nn.init.constant_(network.weight, 0)
    network.bias.data = torch.tensor([500.0, -500.0, 0.0])
    logits = logits_of(network, Averaging(tta=True), SimpleInferer())[0, :, 0, 0, 0]
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.sigmoid(), torch.tensor([1.0, 0.0, 0.5]))


def test_each_pass_can_be_observed_even_if_there_is_only_one(ensemble):
    for averaging, count in ((Averaging(ensemble, MODALITIES, tta=True), 3 * len(FLIPS)), (Averaging(), 1)):
        seen = []
        averaging.on_pass = lambda probabilities, seen=seen: seen.append(probabilities.clone())
        averaged = logits_of(unet(), averaging, WINDOWS)
        assert len(seen) == count
        torch.testing.assert_close(averaged.sigmoid(), sum(seen) / count)


def test_a_member_that_disappears_during_a_run_is_named(ensemble):
    lost = checkpoint_members(ensemble)[2]
    averaging = Averaging(ensemble, MODALITIES)
    logits_of(unet(), averaging, WINDOWS)
    lost.unlink()
    with pytest.raises(NotFoundError) as caught:
        logits_of(unet(), averaging, WINDOWS)
    assert str(lost) in caught.value.problem


def test_a_missing_checkpoint_is_reported_only_when_it_is_loaded(tmp_path):
    averaging = Averaging(tmp_path / "none.pt", MODALITIES)
    assert torch.equal(logits_of(unet(), averaging, WINDOWS), logits_of(unet(), None, WINDOWS))


def test_tta_must_be_a_bool():
    with pytest.raises(UsageError) as caught:
        Averaging(tta="false")
    assert caught.value.subject == "tta"
