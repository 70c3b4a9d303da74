"""Ensembles: their card, their members, and errors that name the members that do not fit together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import UNet

from brats3d.errors import DataError, NotFoundError, UsageError
from brats3d.inference import describe_weights
from brats3d.networks import (
    checkpoint_members,
    load_weights,
    read_card,
    save_checkpoint,
    single_checkpoint,
    supports_absent_sequences,
    trained_patch_size,
    weights_digest,
    write_ensemble,
)
from brats3d.networks.checkpoint_card import describe_network

FOUR = ["t1", "t1ce", "t2", "flair"]
Save = Callable[..., Path]


def unet(in_channels: int = 4, channels: tuple[int, ...] = (4, 8), seed: int | None = None) -> UNet:
    if seed is not None:
        torch.manual_seed(seed)
    return UNet(3, in_channels, 3, channels=channels, strides=(2,) * (len(channels) - 1))


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """``save(fold, of=None, **more of the card)`` writes a checkpoint of a fold of ``tmp_path/crossval``."""

    def make(fold: int, of: UNet | None = None, **more: Any) -> Path:
        network = of or unet(seed=fold)
        path = tmp_path / "crossval" / f"fold{fold}" / "checkpoints" / "best.pt"
        card = {"modalities": FOUR, "regions": ["TC", "WT", "ET"], "network_def": describe_network(network)}
        save_checkpoint(path, network.state_dict(), {**card, "patch_size": [32, 32, 32], "epoch": fold + 1, **more})
        return path

    return make


@pytest.fixture
def ensemble(save: Save, tmp_path: Path) -> Path:
    write_ensemble(tmp_path / "crossval", [save(fold) for fold in range(3)])
    return tmp_path / "crossval"


def same(network: UNet, path: Path) -> bool:
    weights = torch.load(path, weights_only=True)
    return all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_the_card_has_what_the_members_share_and_their_paths_within_the_folder(ensemble):
    assert read_card(ensemble) == json.loads((ensemble / "ensemble.json").read_text())
    assert read_card(ensemble) == {
        "modalities": FOUR,
        "regions": ["TC", "WT", "ET"],
        "network_def": describe_network(unet()),
        "patch_size": [32, 32, 32],
        "members": [f"fold{fold}/checkpoints/best.pt" for fold in range(3)],
    }
    assert trained_patch_size(ensemble) == [32, 32, 32]


def test_the_card_has_what_was_learned_for_the_ensemble(ensemble):
    members = checkpoint_members(ensemble)
    write_ensemble(ensemble, members, {"quality": {"cases": 3}})
    assert read_card(ensemble)["quality"] == {"cases": 3} and checkpoint_members(ensemble) == members


def test_the_members_of_a_folder_are_its_checkpoints_and_a_file_is_its_own(ensemble):
    members = [ensemble / f"fold{fold}" / "checkpoints" / "best.pt" for fold in range(3)]
    assert checkpoint_members(ensemble) == checkpoint_members(str(ensemble)) == members
    assert checkpoint_members(members[0]) == [members[0]]


def test_a_moved_folder_is_the_same_ensemble(ensemble, tmp_path):
    digest = weights_digest(ensemble)
    moved = ensemble.rename(tmp_path / "moved")
    assert len(checkpoint_members(moved)) == 3 and weights_digest(moved) == digest


def test_members_beside_the_folder_are_found(save, tmp_path):
    member = save(0)
    (tmp_path / "pair").mkdir()
    write_ensemble(tmp_path / "pair", [member, save(1)])
    assert checkpoint_members(tmp_path / "pair")[0].samefile(member)


def test_the_digest_is_that_of_the_digests_of_all_members(ensemble):
    each = [hashlib.sha256(member.read_bytes()).hexdigest() for member in checkpoint_members(ensemble)]
    assert weights_digest(ensemble) == hashlib.sha256("\n".join(each).encode()).hexdigest()
    last = checkpoint_members(ensemble)[-1]
    assert weights_digest(last) == each[-1]
    torch.save(unet(seed=9).state_dict(), last)
    assert weights_digest(ensemble) != hashlib.sha256("\n".join(each).encode()).hexdigest()


def test_an_ensemble_is_described_by_its_folder_members_and_digest(ensemble, monkeypatch):
    described = describe_weights(ensemble)
    assert described == {
        "file": "crossval",
        "sha256": weights_digest(ensemble),
        "members": [f"fold{fold}/checkpoints/best.pt" for fold in range(3)],
    }
    monkeypatch.chdir(ensemble)
    assert describe_weights(".") == described


def test_all_members_are_checked_and_the_first_is_loaded(ensemble, log):
    network = unet()
    assert load_weights(network, ensemble, FOUR) == read_card(ensemble)
    assert same(network, checkpoint_members(ensemble)[0])
    assert "an ensemble of 3 networks" in log.text
    last = checkpoint_members(ensemble)[-1]
    weights = torch.load(last, weights_only=True)
    torch.save({name: value * torch.nan for name, value in weights.items()}, last)
    with pytest.raises(DataError) as caught:
        load_weights(network, ensemble, FOUR)
    assert caught.value.subject == str(last)


@pytest.mark.parametrize(("support", "supported"), [([True, True], True), ([True, None], False), ([None, None], False)])
def test_an_ensemble_supports_absent_sequences_if_all_members_do(save, tmp_path, support, supported):
    more = [{} if each is None else {"absent_sequences": each} for each in support]
    write_ensemble(tmp_path / "crossval", [save(fold, **each) for fold, each in enumerate(more)])
    assert supports_absent_sequences(tmp_path / "crossval") is supported


@pytest.mark.parametrize(
    ("network", "more", "difference"),
    [
        (unet(2), {"modalities": ["t1", "t1ce"]}, ("modalities", "['t1', 't1ce', 't2', 'flair']", "['t1', 't1ce']")),
        (None, {"regions": ["WT"]}, ("regions", "['TC', 'WT', 'ET']", "['WT']")),
        (unet(channels=(4, 16)), {}, ("network_def", "{'channels': [4, 8]}", "{'channels': [4, 16]}")),
        (None, {"patch_size": [64, 64, 64]}, ("patch_size", "[32, 32, 32]", "[64, 64, 64]")),
        (None, {"network": {"_target_": "UNet"}}, ("network", "None", "{'_target_': 'UNet'}")),
    ],
    ids=["sequences", "regions", "network", "patch size", "network config"],
)
def test_members_that_differ_are_named_with_the_difference(save, tmp_path, network, more, difference):
    first, second, other = save(0), save(1), save(2, network, **more)
    with pytest.raises(UsageError) as caught:
        write_ensemble(tmp_path / "crossval", [first, second, other])
    key, here, there = difference
    assert caught.value.subject == "members"
    assert caught.value.problem == f"{first} has {key} {here}, {other} has {there}"
    assert not (tmp_path / "crossval" / "ensemble.json").exists()


def test_an_ensemble_needs_members_that_exist(save, tmp_path):
    with pytest.raises(UsageError):
        write_ensemble(tmp_path, [])
    with pytest.raises(NotFoundError) as caught:
        write_ensemble(tmp_path, [save(0), tmp_path / "fold1.pt"])
    assert str(tmp_path / "fold1.pt") in caught.value.problem


def test_a_member_that_has_disappeared_is_named(ensemble):
    lost = checkpoint_members(ensemble)[1]
    lost.unlink()
    for use in (checkpoint_members, weights_digest, lambda path: load_weights(unet(), path, FOUR)):
        with pytest.raises(NotFoundError) as caught:
            use(ensemble)
        assert caught.value.subject == "checkpoint" and str(lost) in caught.value.problem


def test_a_folder_that_is_no_ensemble_is_refused_with_advice(save, tmp_path):
    best = save(0)
    for folder, advice in ((best.parents[1], f"pass {best}"), (tmp_path, "pass a checkpoint, or")):
        with pytest.raises(NotFoundError) as caught:
            read_card(folder)
        assert caught.value.problem == f"the folder {folder} has no ensemble.json"
        assert caught.value.advice.startswith(advice)


@pytest.mark.parametrize("members", [None, [], "fold0.pt", [0]], ids=str)
def test_a_card_without_valid_members_is_refused(ensemble, members):
    path = ensemble / "ensemble.json"
    card = {**json.loads(path.read_text()), "members": members}
    path.write_text(json.dumps({key: value for key, value in card.items() if value is not None}))
    with pytest.raises(DataError) as caught:
        checkpoint_members(ensemble)
    assert caught.value.subject == str(path) and "'members'" in caught.value.problem


def test_where_one_network_is_needed_an_ensemble_is_refused(ensemble):
    member = checkpoint_members(ensemble)[0]
    assert single_checkpoint(member) == member and single_checkpoint(None) is None
    with pytest.raises(UsageError) as caught:
        single_checkpoint(ensemble)
    assert str(member) in caught.value.advice
