"""Weights and run state: written whole, loaded without running code, refused where they do not fit."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from torch import nn

from brats3d.networks.checkpoint_card import describe_network
from brats3d.networks.checkpoint_file import read_checkpoint
from brats3d.training.checkpoints import restore_run

FOUR = ["t1", "t1ce", "t2", "flair"]


def card_of(network: nn.Module, modalities=FOUR) -> dict:
    regions = ["TC", "WT", "ET"]
    return {"modalities": list(modalities), "regions": regions, "network_def": describe_network(network), "epoch": 7}


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


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
    with pytest.raises(OSError, match="the last good checkpoint is of epoch 1; free some space") as caught:
        made.trainer.run()
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value).startswith(f"{tmp_path}")
    content, card = read_checkpoint(tmp_path / "last.pt")
    assert content["epoch"] == card["epoch"] == 1
    assert not list(tmp_path.glob(".*"))
