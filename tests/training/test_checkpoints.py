"""Weights and run state: written whole, loaded without running code, refused where they do not fit."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.networks.nets import UNet
from torch import nn

from brats3d.networks.checkpoint_file import read_checkpoint, save_checkpoint
from brats3d.networks.describe import describe_network
from brats3d.networks.weights import load_weights
from brats3d.training.checkpoints import restore_run

FOUR = ["t1", "t1ce", "t2", "flair"]


def unet(in_channels: int = 4, channels=(4, 8), **options) -> UNet:
    return UNet(3, in_channels, 3, channels=channels, strides=(2,) * (len(channels) - 1), **options)


def card_of(network: nn.Module, modalities=FOUR) -> dict:
    regions = ["TC", "WT", "ET"]
    return {"modalities": list(modalities), "regions": regions, "network_def": describe_network(network), "epoch": 7}


@pytest.fixture
def saved(tmp_path) -> tuple[Path, UNet]:
    """A checkpoint of a small network of four sequences, and the network."""
    network = unet()
    save_checkpoint(tmp_path / "best.pt", network.state_dict(), card_of(network))
    return tmp_path / "best.pt", network


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


# --- weights


def test_weights_come_back_as_they_were_with_their_card(saved):
    path, network = saved
    other = unet()
    assert not same(network, other)
    assert load_weights(other, path, FOUR) == card_of(network)
    assert same(network, other)


def test_modalities_are_compared_as_a_set_that_has_one_order_and_under_any_releases_names(saved):
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


def test_a_whole_run_state_gives_its_weights(saved):
    path, network = saved
    save_checkpoint(path.with_name("last.pt"), {"network": network.state_dict(), "epoch": 3}, card_of(network))
    other = unet()
    load_weights(other, path.with_name("last.pt"), FOUR)
    assert same(network, other)


# --- fewer sequences


@pytest.fixture
def serving(saved) -> tuple[Path, UNet]:
    """Like ``saved``, of weights that serve absent sequences."""
    path, network = saved
    save_checkpoint(path, network.state_dict(), {**card_of(network), "absent_sequences": True})
    return path, network


@pytest.mark.parametrize("modalities", [["t1", "t2", "flair"], ["flair", "t1ce"], ["t2"]], ids=str)
def test_weights_that_serve_absent_sequences_start_a_network_of_fewer(serving, modalities, log):
    path, whole = serving
    cut = unet(len(modalities))
    assert load_weights(cut, path, modalities)["modalities"] == FOUR
    present = [i for i, m in enumerate(FOUR) if m in modalities]
    image = torch.randn(1, 4, 8, 8, 8)
    zeroed = torch.zeros_like(image)
    zeroed[:, present] = image[:, present]
    torch.testing.assert_close(cut.eval()(image[:, present]), whole.eval()(zeroed), rtol=1e-4, atol=1e-5)
    assert log.messages == [f"{path} reads t1, t1ce, t2, flair; it is cut to {', '.join(FOUR[i] for i in present)}"]


def test_all_their_sequences_load_as_ever(serving, log):
    other = unet()
    load_weights(other, serving[0], FOUR)
    assert same(other, serving[1])
    assert log.messages == []


def test_weights_that_do_not_serve_absent_sequences_are_not_cut(saved):
    path, network = saved
    for card in ({}, {"absent_sequences": False}):
        save_checkpoint(path, network.state_dict(), {**card_of(network), **card})
        with pytest.raises(
            ValueError, match=r"was trained on \['t1', 't1ce', 't2', 'flair'\], this run gives it \['t1'\]"
        ):
            load_weights(unet(1), path, ["t1"])


@pytest.mark.parametrize("wanted", [FOUR, ["t1", "t1ce"], ["t1ce"]], ids=str)
def test_more_or_other_sequences_than_the_weights_know_are_refused(serving, wanted):
    path, _ = serving
    save_checkpoint(path, unet(2).state_dict(), {**card_of(unet(2), ["t1", "flair"]), "absent_sequences": True})
    with pytest.raises(ValueError, match=r"was trained on \['t1', 'flair'\], this run gives it"):
        load_weights(unet(len(wanted)), path, wanted)


def test_another_network_is_not_cut_either(serving):
    with pytest.raises(ValueError, match=r"has network_def \{'channels': \[4, 8\]\}, this run has .*\[4, 16\]"):
        load_weights(unet(1, (4, 16)), serving[0], ["t1"])


# --- what does not fit


def test_a_model_of_other_sequences_of_the_same_number_is_refused(saved):
    path, _ = saved
    save_checkpoint(path, unet(3).state_dict(), card_of(unet(3), ["t1", "t1ce", "flair"]))
    with pytest.raises(
        ValueError, match=r"was trained on \['t1', 't1ce', 'flair'\], .* \['t1', 't2', 'flair'\]; pass --modalit"
    ):
        load_weights(unet(3), path, ["t1", "t2", "flair"])


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"channels": (4, 16)}, r"'channels': \[4, 8\]}.*'channels': \[4, 16\]}"),
        ({"num_res_units": 1}, r"'num_res_units': 0}.*'num_res_units': 1}"),
        ({"act": "RELU"}, r"'act': 'PRELU'}.*'act': 'RELU'}"),
    ],
    ids=str,
)
def test_another_network_is_refused_and_only_what_differs_is_named(saved, options, found):
    with pytest.raises(ValueError, match=rf"{saved[0]} has network_def \{{{found}; pass the matching --checkpoint"):
        load_weights(unet(**options), saved[0], FOUR)


def test_weights_that_their_own_card_does_not_describe_are_refused(saved):
    path, network = saved
    save_checkpoint(path, unet(channels=(4, 16)).state_dict(), card_of(network))
    with pytest.raises(ValueError, match=f"{path} does not fit the network") as error:
        load_weights(unet(), path, FOUR)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "same_card"),
    [({}, True), ({"in_channels": 3}, False), ({"channels": (4, 16)}, False), ({"norm": "BATCH"}, False)],
    ids=str,
)
def test_networks_are_told_apart_by_their_description(options, same_card):
    description = describe_network(unet(**options))
    assert (description == describe_network(unet())) is same_card
    assert json.loads(json.dumps(description)) == description
    assert description["class"].endswith("UNet")


def test_a_networks_description_is_the_same_in_training_and_in_evaluation():
    network = unet()
    assert describe_network(network.train()) == describe_network(network.eval())


# --- what is damaged


def test_a_missing_file_and_a_missing_card_are_told_apart(saved):
    path, network = saved
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.pt; train one first"):
        load_weights(network, path.with_name("none.pt"), FOUR)
    path.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no best\.json beside it.*copy the two files together"):
        load_weights(network, path, FOUR)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_weights_are_refused_in_one_line(saved, share):
    path, network = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"{path} is damaged or holds more than weights") as error:
        load_weights(network, path, FOUR)
    assert "\n" not in str(error.value)


def test_one_changed_byte_is_noticed(saved):
    path, network = saved
    value = network.state_dict()["model.0.conv.weight"].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(value) + 1] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True), "torch itself does not"
    with pytest.raises(ValueError, match=rf"{path} is damaged .*checksum of \S+ is wrong"):
        load_weights(network, path, FOUR)


@pytest.mark.parametrize(
    "content", [b"hello", b"PK\x03\x04", b"\x80\x02}.", bytes(5000)], ids=["text", "zip", "pickle", "zeros"]
)
def test_what_is_no_checkpoint_is_refused_in_one_line(saved, content):
    path, network = saved
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"checkpoint: {path}") as error:
        load_weights(network, path, FOUR)
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)


@pytest.mark.parametrize("content", [[1, 2], {"network": [1]}, {"network": {"a": 1}}, {}, {"epoch": 3}], ids=str)
def test_what_holds_no_weights_is_refused(saved, content):
    path, network = saved
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"checkpoint: {path}"):
        load_weights(network, path, FOUR)


def test_weights_that_are_not_finite_are_refused_and_the_network_stays_as_it_was(saved):
    path, network = saved
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    weights["model.0.conv.bias"][0] = float("nan")
    save_checkpoint(path, weights, card_of(network))
    other, before = unet(), unet()
    before.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match=r"does not fit the network \(model.0.conv.bias holds 1 values that are NaN"):
        load_weights(other, path, FOUR)
    assert same(other, before)


@pytest.mark.parametrize("text", ["{", "[]", "\xff"], ids=["torn", "no mapping", "no text"])
def test_a_damaged_card_is_refused(saved, text):
    path, network = saved
    path.with_suffix(".json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"best\.json"):
        load_weights(network, path, FOUR)


def test_a_checkpoint_that_would_run_code_is_refused_before_it_does(saved, tmp_path):
    path, network = saved
    torch.save({**network.state_dict(), "extra": Touch(tmp_path / "ran")}, path)
    with pytest.raises(ValueError, match=r"holds more than weights \(it names _?io\.open\)$") as error:
        load_weights(network, path, FOUR)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)["extra"].close()  # it would have
    assert (tmp_path / "ran").exists()


def test_a_kill_while_saving_leaves_the_old_checkpoint(saved, monkeypatch):
    path, network = saved

    def torn(content, file) -> None:
        buffer = io.BytesIO()
        save(content, buffer)
        file.write(buffer.getvalue()[:500])
        raise KeyboardInterrupt

    save = torch.save
    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, unet().state_dict(), {**card_of(network), "epoch": 8})
    other = unet()
    assert load_weights(other, path, FOUR)["epoch"] == 7
    assert same(network, other)
    assert sorted(p.name for p in path.parent.iterdir()) == ["best.json", "best.pt"]


# --- a run


def interrupt(run, iteration: int) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    run.trainer.add_event_handler(Events.ITERATION_STARTED(once=iteration), stop)
    with pytest.raises(KeyboardInterrupt):
        run.trainer.run()


@pytest.mark.parametrize("iteration", [3, 4, 6], ids=["between epochs", "within one", "in the last"])
def test_an_interrupted_run_ends_bit_by_bit_as_one_that_was_not(toy_run, tmp_path, iteration):
    whole = toy_run(checkpoints=tmp_path / "whole")
    whole.trainer.run()
    interrupt(toy_run(checkpoints=tmp_path / "parts"), iteration)
    parts = toy_run(checkpoints=tmp_path / "parts")
    restore_run(tmp_path / "parts" / "last.pt", **parts.parts)
    parts.trainer.run()

    assert same(whole.network, parts.network)
    for name in ("last", "best"):
        a, b = (read_checkpoint(tmp_path / run / f"{name}.pt") for run in ("whole", "parts"))
        assert a[1] == b[1]
        assert torch.equal(*(torch.cat([v.flatten() for v in c.get("network", c).values()]) for c, _ in (a, b)))
    assert whole.optimizer.param_groups[0]["lr"] == parts.optimizer.param_groups[0]["lr"]
    assert whole.trainer.state.iteration == parts.trainer.state.iteration == 6


def test_a_resumed_run_does_not_overwrite_a_better_best(toy_run, tmp_path):
    scores = {1: 0.9, 2: 0.2, 3: 0.5, 4: 0.95}
    interrupt(toy_run(epochs=4, scores=scores, checkpoints=tmp_path), 4)
    first = (tmp_path / "best.pt").read_bytes()
    resumed = toy_run(epochs=4, scores=scores, checkpoints=tmp_path)
    restore_run(tmp_path / "last.pt", **resumed.parts)
    seen = []
    resumed.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: seen.append((tmp_path / "best.pt").read_bytes() == first)
    )
    resumed.trainer.run()
    assert seen == [True, True, False]
    assert read_checkpoint(tmp_path / "best.pt")[1]["scores"] == {"val_mean_dice": 0.95}


@pytest.mark.parametrize(
    ("again", "kept", "known"),
    [(0.8, True, 0.9), (0.9, True, 0.9), (0.97, False, 0.97)],
    ids=["worse", "same", "better"],
)
def test_best_weights_that_the_state_knows_nothing_of_are_not_overwritten_by_worse_ones(
    toy_run, tmp_path, again, kept, known
):
    """Killed between best.pt and last.pt; the repeated epoch's score is another one, as in a pretraining."""
    interrupt(toy_run(scores={1: 0.5, 2: 0.7, 3: 0.9}, checkpoints=tmp_path), 4)
    left = (tmp_path / "last.pt").read_bytes()
    ahead = toy_run(scores={1: 0.5, 2: 0.7, 3: 0.9}, checkpoints=tmp_path)
    restore_run(tmp_path / "last.pt", **ahead.parts)
    ahead.trainer.run()
    (tmp_path / "last.pt").write_bytes(left)
    best = (tmp_path / "best.pt").read_bytes()
    resumed = toy_run(scores={1: 0.5, 2: 0.7, 3: again}, checkpoints=tmp_path)
    restore_run(tmp_path / "last.pt", **resumed.parts)
    assert (resumed.evaluator.state.best_metric, resumed.evaluator.state.best_metric_epoch) == (0.9, 3)
    resumed.optimizer.param_groups[0]["weight_decay"] = 0.5  # so that the weights are others
    resumed.trainer.run()
    assert ((tmp_path / "best.pt").read_bytes() == best) is kept
    assert read_checkpoint(tmp_path / "best.pt")[1]["best_metric"] == known
    assert read_checkpoint(tmp_path / "last.pt")[0]["best_metric"] == known


def test_best_is_a_plain_state_dict_and_last_names_the_whole_state(toy_run, tmp_path):
    run = toy_run(epochs=2, scores={1: 0.7, 2: 0.3}, checkpoints=tmp_path)
    run.trainer.run()
    best, card = read_checkpoint(tmp_path / "best.pt")
    assert set(best) == set(run.network.state_dict())
    expected = {
        "epoch": 1,
        "iteration": 2,
        "patch_size": [8, 8, 8],
        "scores": {"val_mean_dice": 0.7},
        "best_metric": 0.7,
    }
    assert card == {**card_of(run.network, ["t1"]), **expected}
    last, card = read_checkpoint(tmp_path / "last.pt")
    assert set(last) == {
        "network",
        "optimizer",
        "lr_scheduler",
        "epoch",
        "iteration",
        "epoch_length",
        "pending",
        "within",
        "tracked",
        "best_metric",
        "best_epoch",
        "network_def",
        "settings",
    }
    assert (last["epoch"], last["iteration"], last["best_metric"], last["best_epoch"]) == (2, 4, 0.7, 1)
    assert (card["epoch"], card["scores"]) == (2, {"val_mean_dice": 0.3})


def test_without_a_validation_yet_there_is_a_last_and_no_best(toy_run, tmp_path):
    interrupt(toy_run(interval=2, checkpoints=tmp_path), 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.json", "last.pt"]
    resumed = toy_run(interval=2, checkpoints=tmp_path)
    restore_run(tmp_path / "last.pt", **resumed.parts)
    assert resumed.evaluator.state.best_metric_epoch == -1


def test_weights_alone_are_no_run_to_go_on_with(toy_run, tmp_path):
    run = toy_run(epochs=1, checkpoints=tmp_path)
    run.trainer.run()
    with pytest.raises(ValueError, match=r"best\.pt does not fit this run"):
        restore_run(tmp_path / "best.pt", **toy_run(epochs=1).parts)


def test_a_run_of_another_network_of_the_same_shapes_is_refused(toy_run, tmp_path):
    run = toy_run(epochs=1, checkpoints=tmp_path)
    run.trainer.run()
    other = toy_run(epochs=1)
    other.network.padding_mode = "reflect"
    with pytest.raises(
        ValueError, match=r"has network_def \{'padding_mode': 'zeros'\}, this run has .*; name another --output_dir"
    ):
        restore_run(tmp_path / "last.pt", **other.parts)


# --- a full disk


@pytest.mark.parametrize("when", ["before", "half way"])
def test_a_full_disk_ends_the_run_and_leaves_the_last_good_checkpoint(toy_run, tmp_path, monkeypatch, when):
    made = toy_run(epochs=3, checkpoints=tmp_path, tensorboard=tmp_path / "tensorboard")

    def fill(engine):
        if when == "before":
            monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=100))
        else:
            monkeypatch.setattr("torch.save", full)

    def full(content, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    made.trainer.add_event_handler(Events.EPOCH_STARTED(once=2), fill)
    with pytest.raises(OSError, match="the last good checkpoint is of epoch 1; make room") as caught:
        made.trainer.run()
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value).startswith(f"{tmp_path}")
    content, card = read_checkpoint(tmp_path / "last.pt")
    assert content["epoch"] == card["epoch"] == 1
    assert not list(tmp_path.glob(".*"))


def test_the_room_that_is_asked_for_is_what_is_written(toy_run, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "brats3d.networks.checkpoint_file.require_space", lambda path, size, more: asked.update({path: size})
    )
    content = {"network": nn.Conv3d(4, 64, 3).state_dict(), "epoch": 3}
    save_checkpoint(tmp_path / "last.pt", content, {"epoch": 3})
    written = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert asked[tmp_path / "last.pt"] == pytest.approx(written, rel=0.05)
