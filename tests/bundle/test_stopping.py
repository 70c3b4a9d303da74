"""Trainings that are told to stop, or are cut off, and go on with the same command."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from brats3d.report.curves import read_curves, read_scalars
from brats3d.training import checkpoints as checkpoints
from brats3d.training.stop import RunEvents

Workflow = Callable[..., ConfigWorkflow]
OPTIONS = {"epochs": 3, "batch_size": 1, "val_interval": 1}  # three cases to train on: nine steps


def state(run: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True)


def assert_as_if_nothing_had_happened(run: Path, whole: Path) -> None:
    for name in ("last", "best"):
        a, b = (state(folder, name) for folder in (run, whole))
        a, b = a.get("network", a), b.get("network", b)
        assert all(torch.equal(a[key], b[key]) for key in b)
    for name in ("epoch", "iteration", "pending", "best_metric", "best_epoch"):
        assert state(run)[name] == state(whole)[name], name
    for name in ("metrics.json", "checkpoints/best.json", "checkpoints/last.json"):
        assert json.loads((run / name).read_text()) == json.loads((whole / name).read_text()), name
    assert read_curves(run) == read_curves(whole)
    for tag in ("train_loss", "learning_rate"):
        assert read_scalars(run)[tag] == read_scalars(whole)[tag]


@pytest.fixture(scope="module")
def whole(phantoms: Path, workflow: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a training that was not interrupted."""
    output = tmp_path_factory.mktemp("whole") / "run"
    workflow("train", dataset_dir=phantoms, output_dir=output, **OPTIONS).run()
    return output


@pytest.fixture
def train(phantoms: Path, workflow: Workflow, tmp_path: Path) -> Callable[..., ConfigWorkflow]:
    """A training in ``tmp_path / "run"``, not yet run."""
    return lambda **more: workflow("train", dataset_dir=phantoms, output_dir=tmp_path / "run", **{**OPTIONS, **more})


def send(made: ConfigWorkflow, signum: int, event: Any, validating: bool = False) -> ConfigWorkflow:
    """The signal comes at an event of the trainer, or of its evaluator."""
    (made.evaluator if validating else made.trainer).add_event_handler(event, lambda: os.kill(os.getpid(), signum))
    return made


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_saves_and_exits(
    signum: int, code: int, train: Workflow, whole: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(SystemExit) as stopped:
        send(train(), signum, Events.ITERATION_STARTED(once=5)).run()
    assert stopped.value.code == code
    left = state(tmp_path / "run")
    assert (left["iteration"], left["epoch"], left["pending"]) == (5, 1, 0)
    said = f"stopped ({signal.Signals(signum).name}) and saved after step 2 of epoch 2; the same command goes on from"
    assert said in log.text
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before
    assert not [r for r in log.records if "terminating due to exception" in r.getMessage()]
    train().run()
    assert "going on in" in log.text and "after step 2 of epoch 2" in log.text
    assert_as_if_nothing_had_happened(tmp_path / "run", whole)


@pytest.mark.parametrize("epoch", [2, 3], ids=["in the middle", "in the last"])
def test_a_signal_during_a_validation_leaves_it_to_the_next_start(
    epoch: int, train: Workflow, whole: Path, tmp_path: Path
) -> None:
    made = train()
    made.evaluator.add_event_handler(
        Events.ITERATION_STARTED,
        lambda engine: os.kill(os.getpid(), signal.SIGTERM) if engine.state.epoch == epoch else None,
    )
    with pytest.raises(SystemExit):
        made.run()
    left = state(tmp_path / "run")
    assert (left["iteration"], left["epoch"], left["pending"]) == (3 * epoch, epoch - 1, 1)
    train().run()
    assert_as_if_nothing_had_happened(tmp_path / "run", whole)


def test_a_signal_at_an_epochs_last_step_leaves_the_validation_too(
    train: Workflow, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        send(train(), signal.SIGTERM, Events.ITERATION_STARTED(once=3)).run()
    assert state(tmp_path / "run")["pending"] == 1
    with pytest.raises(SystemExit):  # and once more, before that validation is over
        send(train(), signal.SIGTERM, Events.ITERATION_STARTED, validating=True).run()
    assert state(tmp_path / "run")["pending"] == 1
    train().run()
    assert_as_if_nothing_had_happened(tmp_path / "run", whole)


def test_minutes_end_a_run_as_a_signal_does_and_are_no_error(
    train: Workflow, whole: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    starts = 0
    while not (tmp_path / "run" / "metrics.json").is_file() or state(tmp_path / "run")["iteration"] < 9:
        train(minutes=1e-9).run()  # a step each
        starts += 1
        assert starts < 20
    train().run()
    assert "stopped (its minutes are over) and saved after step 1 of epoch 1" in log.text
    assert_as_if_nothing_had_happened(tmp_path / "run", whole)


def test_a_run_that_was_cut_off_goes_on_from_the_last_save_within_an_epoch(
    train: Workflow, whole: Path, tmp_path: Path
) -> None:
    made = train(checkpoint_minutes=1e-9)

    def cut_off() -> None:
        raise RuntimeError("power failure")

    made.trainer.add_event_handler(Events.ITERATION_STARTED(once=6), cut_off)
    with pytest.raises(RuntimeError):
        made.run()
    assert state(tmp_path / "run")["iteration"] == 5
    train().run()
    assert_as_if_nothing_had_happened(tmp_path / "run", whole)


def test_a_validation_that_was_shown_and_not_saved_is_shown_once(train: Workflow, whole: Path, tmp_path: Path) -> None:
    made = train(checkpoint_minutes=1e-9)  # so that the state before the validation is saved

    def cut_off(engine) -> None:  # all is written and flushed, and the epoch's end is not saved
        if engine.state.epoch == 2:
            raise RuntimeError("power failure")

    keeper = next(
        handler
        for handler, *_ in made.trainer._event_handlers[Events.EPOCH_COMPLETED]
        if type(getattr(handler, "__self__", handler)).__name__ == "KeepCheckpoints"
    )
    made.trainer.remove_event_handler(keeper, Events.EPOCH_COMPLETED)
    made.trainer.add_event_handler(Events.EPOCH_COMPLETED, cut_off)
    made.trainer.add_event_handler(Events.EPOCH_COMPLETED, keeper)
    with pytest.raises(RuntimeError):
        made.run()
    left = state(tmp_path / "run")
    assert (left["iteration"], left["epoch"], left["pending"]) == (6, 1, 1)
    train().run()
    assert_as_if_nothing_had_happened(tmp_path / "run", whole)


def test_a_damaged_state_is_passed_over_for_the_one_before(
    train: Workflow, whole: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        send(train(checkpoint_minutes=1e-9), signal.SIGTERM, Events.ITERATION_STARTED(once=5)).run()
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:-999])
    (tmp_path / "run" / "settings.json").unlink()  # for people alone
    train().run()
    assert "last.pt is damaged" in log.text and "going back to" in log.text
    assert_as_if_nothing_had_happened(tmp_path / "run", whole)


def test_after_going_back_the_good_state_stays_until_there_is_a_newer_one(
    train: Workflow, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        send(train(checkpoint_minutes=1e-9), signal.SIGTERM, Events.ITERATION_STARTED(once=5)).run()
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    last.write_bytes(b"torn")

    def cut_off(*given: Any, **more: Any) -> None:
        raise OSError("power failure")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.torch, "save", cut_off)
        with pytest.raises((OSError, RuntimeError)):
            train().run()
    train().run()
    assert_as_if_nothing_had_happened(tmp_path / "run", whole)


def test_where_every_state_is_damaged_that_is_said(train: Workflow, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        send(train(), signal.SIGTERM, Events.ITERATION_STARTED(once=5)).run()
    for name in ("last", "previous"):
        (tmp_path / "run" / "checkpoints" / f"{name}.pt").write_bytes(b"torn")
    with pytest.raises(RuntimeError) as caught:
        train().run()
    assert "last.pt is damaged" in str(caught.value.__cause__)
    assert "name another --output_dir, or remove" in str(caught.value.__cause__)


def test_what_was_half_written_when_a_run_was_killed_is_removed(train: Workflow, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    half, mine = folder / ".last.pt.0123456789ab.tmp", folder / ".notes.tmp"
    for file in (half, mine):
        file.write_bytes(b"half")
    train(epochs=1).run()
    assert not half.exists() and mine.exists()


def cause(caught: pytest.ExceptionInfo[BaseException]) -> str:
    return str(caught.value.__cause__ or caught.value)


def test_never_refuses_a_folder_that_holds_a_run_and_force_goes_on(
    train: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        send(train(), signal.SIGTERM, Events.ITERATION_STARTED(once=5)).run()
    with pytest.raises(RuntimeError) as caught:
        train(resume="never").run()
    assert "holds a run, and resume is 'never'" in cause(caught)
    with pytest.raises(RuntimeError) as caught:
        train(weight_decay=0.1).run()
    assert "weight_decay was 1e-05, is 0.1; name another --output_dir, repeat" in cause(caught)
    assert "--resume force" in cause(caught)
    forced = train(weight_decay=0.1, learning_rate=1e-5, resume="force")
    forced.run()
    (group,) = forced.trainer.optimizer.param_groups
    assert (group["weight_decay"], group["initial_lr"]) == (0.1, 1e-5)
    rates = dict(read_scalars(tmp_path / "run")["learning_rate"])
    assert rates[5] > 1e-4 > 1e-5 >= rates[6]
    assert "goes on with other settings: " in log.text
    for change in ("learning_rate was 0.001, is 1e-05", "weight_decay was 1e-05, is 0.1"):
        assert change in log.text
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["weight_decay"] == 0.1
    train(weight_decay=0.1, learning_rate=1e-5).run()  # now they are its own
    assert "is finished: 3 epochs" in log.text


def test_an_unknown_way_to_resume_is_refused(train: Workflow) -> None:
    with pytest.raises(RuntimeError) as caught:
        train(resume="perhaps").run()
    assert cause(caught) == "resume: expected one of auto, force, never, got 'perhaps'"


def test_data_that_changed_are_refused_with_their_names(phantoms: Path, workflow: Workflow, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(phantoms, data)
    with pytest.raises(SystemExit):
        send(
            workflow("train", dataset_dir=data, output_dir=run, **OPTIONS),
            signal.SIGTERM,
            Events.ITERATION_STARTED(once=2),
        ).run()
    moved = tmp_path / "moved"
    data.rename(moved)
    file = sorted(moved.rglob("*seg*"))[0]
    content = bytearray(file.read_bytes())
    plain = bytearray(gzip.decompress(content)) if file.suffix == ".gz" else content
    plain[-7] ^= 1  # a label of the same size
    file.write_bytes(gzip.compress(plain) if file.suffix == ".gz" else plain)
    with pytest.raises(RuntimeError) as caught:
        workflow("train", dataset_dir=moved, output_dir=run, **OPTIONS).run()
    assert f"the files of 1 cases have changed ['{file.parent.name}']" in cause(caught)


@pytest.mark.parametrize(
    ("id_", "value", "said"),
    [
        ("optimizer#betas", [0.8, 0.999], "optimizer was AdamW("),
        ("loss#batch", True, "loss was DiceBCELoss("),
        ("train#random_transforms#3#prob", 0.25, "transform 8 was RandFlipd("),
        ("train#random_transforms#3#_disabled_", True, "transform 8 was RandFlipd("),
    ],
)
def test_parts_that_were_put_in_the_place_of_others_are_refused_by_name(
    train: Workflow, tmp_path: Path, id_: str, value: Any, said: str, log: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        send(train(), signal.SIGTERM, Events.ITERATION_STARTED(once=2)).run()
    with pytest.raises(RuntimeError) as caught:
        train(**{id_: value}).run()
    assert f"holds a run with other settings: {said}" in cause(caught)
    train(**{id_: value}, resume="force", minutes=1e-9).run()
    assert said in log.text


def test_every_process_and_handler_shares_the_events(train: Workflow) -> None:
    trainer = train().trainer
    assert all(trainer.has_registered_events(event) for event in (RunEvents.SAVE, RunEvents.SAVE_BEFORE_END))


def test_a_score_that_is_no_number_is_never_best(train: Workflow, tmp_path: Path) -> None:
    made = train()

    def no_number(engine) -> None:
        engine.state.metrics["val_mean_dice"] = float("nan")
        engine.state.best_metric, engine.state.best_metric_epoch = float("nan"), engine.state.epoch  # as MONAI does

    made.evaluator.add_event_handler(Events.EPOCH_COMPLETED(lambda engine, epoch: epoch == 1), no_number)
    made.run()
    assert state(tmp_path / "run")["best_epoch"] > 1
    assert state(tmp_path / "run")["best_metric"] >= 0


@pytest.mark.slow
def test_a_signal_to_worker_processes_too_is_a_stop_after_a_step(train: Workflow, whole: Path, tmp_path: Path) -> None:
    made = train(num_workers=2)

    def to_all(engine) -> None:
        for child in psutil.Process().children(recursive=True):
            if "resource_tracker" not in " ".join(child.cmdline()):
                child.terminate()
        os.kill(os.getpid(), signal.SIGTERM)

    made.trainer.add_event_handler(Events.ITERATION_STARTED(once=4), to_all)
    with pytest.raises(SystemExit) as stopped:
        made.run()
    assert stopped.value.code == 143
    assert state(tmp_path / "run")["iteration"] in (3, 4)
    train().run()
    assert_as_if_nothing_had_happened(tmp_path / "run", whole)
