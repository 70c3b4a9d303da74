"""Run states: saved and restored so that a resumed run ends as one that was not interrupted."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from brats3d.errors import DataError
from brats3d.networks.checkpoint_file import read_checkpoint, read_content
from brats3d.training.checkpoints import restore_run


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def restore(run, path: Path) -> None:
    restore_run(run.state, run.trainer, path, read_content(path))


def last(output: Path) -> Path:
    return output / "checkpoints" / "last.pt"


def best(output: Path) -> Path:
    return output / "checkpoints" / "best.pt"


def interrupt(run, iteration: int) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    run.trainer.add_event_handler(Events.ITERATION_STARTED(once=iteration), stop)
    with pytest.raises(KeyboardInterrupt):
        run.trainer.run()


@pytest.mark.parametrize("iteration", [3, 4, 6], ids=["between epochs", "within one", "in the last"])
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(toy_run, tmp_path, iteration):
    whole = toy_run(output=tmp_path / "whole")
    whole.trainer.run()
    interrupt(toy_run(output=tmp_path / "parts"), iteration)
    parts = toy_run(output=tmp_path / "parts")
    restore(parts, last(tmp_path / "parts"))
    parts.trainer.run()

    assert same(whole.network, parts.network)
    for file in (last, best):
        a, b = (read_checkpoint(file(tmp_path / run)) for run in ("whole", "parts"))
        assert a[1] == b[1]
        assert torch.equal(*(torch.cat([v.flatten() for v in c.get("network", c).values()]) for c, _ in (a, b)))
    assert whole.optimizer.param_groups[0]["lr"] == parts.optimizer.param_groups[0]["lr"]
    assert whole.trainer.state.iteration == parts.trainer.state.iteration == 6


def test_a_resumed_run_does_not_overwrite_a_better_best(toy_run, tmp_path):
    scores = {1: 0.9, 2: 0.2, 3: 0.5, 4: 0.95}
    interrupt(toy_run(epochs=4, scores=scores, output=tmp_path), 4)
    first = best(tmp_path).read_bytes()
    resumed = toy_run(epochs=4, scores=scores, output=tmp_path)
    restore(resumed, last(tmp_path))
    seen = []
    resumed.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(best(tmp_path).read_bytes() == first))
    resumed.trainer.run()
    assert seen == [True, True, False]
    assert read_checkpoint(best(tmp_path))[1]["scores"] == {"val_mean_dice": 0.95}


@pytest.mark.parametrize(
    ("again", "kept", "known"),
    [(0.8, True, 0.9), (0.9, True, 0.9), (0.97, False, 0.97)],
    ids=["worse", "same", "better"],
)
def test_best_weights_newer_than_the_state_are_not_overwritten_by_worse_ones(toy_run, tmp_path, again, kept, known):
    """The run was killed between best.pt and last.pt, and the repeated epoch has another score, as in a pretraining."""
    interrupt(toy_run(scores={1: 0.5, 2: 0.7, 3: 0.9}, output=tmp_path), 4)
    left = last(tmp_path).read_bytes()
    ahead = toy_run(scores={1: 0.5, 2: 0.7, 3: 0.9}, output=tmp_path)
    restore(ahead, last(tmp_path))
    ahead.trainer.run()
    last(tmp_path).write_bytes(left)
    before = best(tmp_path).read_bytes()
    resumed = toy_run(scores={1: 0.5, 2: 0.7, 3: again}, output=tmp_path)
    restore(resumed, last(tmp_path))
    assert (resumed.evaluator.state.best_metric, resumed.evaluator.state.best_metric_epoch) == (0.9, 3)
    resumed.optimizer.param_groups[0]["weight_decay"] = 0.5  # so that the weights are others
    resumed.trainer.run()
    assert (best(tmp_path).read_bytes() == before) is kept
    assert read_checkpoint(best(tmp_path))[1]["best_metric"] == known
    assert read_checkpoint(last(tmp_path))[0]["best_metric"] == known


def test_best_is_a_plain_state_dict_and_last_the_whole_state_by_name(toy_run, tmp_path):
    run = toy_run(epochs=2, scores={1: 0.7, 2: 0.3}, output=tmp_path)
    run.trainer.run()
    weights, card = read_checkpoint(best(tmp_path))
    assert set(weights) == set(run.network.state_dict())
    expected = {
        "epoch": 1,
        "iteration": 2,
        "patch_size": [8, 8, 8],
        "scores": {"val_mean_dice": 0.7},
        "best_metric": 0.7,
    }
    assert {name: card[name] for name in expected} == expected
    assert (card["modalities"], card["regions"]) == (["t1"], ["TC", "WT", "ET"])
    content, card = read_checkpoint(last(tmp_path))
    assert set(content) == {
        "network",
        "optimizer",
        "lr_scheduler",
        "epoch",
        "iteration",
        "epoch_length",
        "epoch_end_pending",
        "within_epoch",
        "last_points",
        "best_metric",
        "best_epoch",
        "network_def",
        "settings",
    }
    assert (content["epoch"], content["iteration"], content["best_metric"], content["best_epoch"]) == (2, 4, 0.7, 1)
    assert (card["epoch"], card["scores"]) == (2, {"val_mean_dice": 0.3})


def test_before_the_first_validation_there_is_no_best(toy_run, tmp_path):
    interrupt(toy_run(interval=2, output=tmp_path), 3)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["last.json", "last.pt"]
    resumed = toy_run(interval=2, output=tmp_path)
    restore(resumed, last(tmp_path))
    assert resumed.evaluator.state.best_metric_epoch == -1


def test_a_run_cannot_resume_from_weights_alone(toy_run, tmp_path):
    run = toy_run(epochs=1, output=tmp_path)
    run.trainer.run()
    other = toy_run(epochs=1)
    with pytest.raises(DataError) as caught:
        restore(other, best(tmp_path))
    assert caught.value.subject == str(best(tmp_path))


def test_a_run_of_another_network_of_the_same_shapes_is_refused(toy_run, tmp_path):
    run = toy_run(epochs=1, output=tmp_path)
    run.trainer.run()
    other = toy_run(epochs=1)
    other.network.padding_mode = "reflect"
    with pytest.raises(
        ValueError, match=r"has network_def \{'padding_mode': 'zeros'\}, this run has .*; choose another --output_dir"
    ):
        restore(other, last(tmp_path))


# --- a full disk


def test_a_full_disk_ends_the_run_and_leaves_the_last_good_checkpoint(toy_run, tmp_path, monkeypatch):
    made = toy_run(epochs=3, output=tmp_path, tensorboard=True)

    def fill(engine):
        monkeypatch.setattr("torch.save", full)

    def full(content, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    made.trainer.add_event_handler(Events.EPOCH_STARTED(once=2), fill)
    with pytest.raises(OSError, match="the last good checkpoint is of epoch 1; free some space") as caught:
        made.trainer.run()
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value).startswith(f"{tmp_path}")
    content, card = read_checkpoint(last(tmp_path))
    assert content["epoch"] == card["epoch"] == 1
    assert not list((tmp_path / "checkpoints").glob(".*"))
