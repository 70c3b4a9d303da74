"""Trainings that are stopped or killed, and resumed with the same command."""

from __future__ import annotations

import gzip
import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from filelock import FileLock
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from brats3d.errors import DataError, UsageError
from brats3d.files import cause_of
from brats3d.labels import MODALITIES, REGIONS
from brats3d.report.curves import read_curves, read_scalars
from brats3d.training import checkpoints as checkpoints
from brats3d.training.resume import find_run
from brats3d.training.run_lock import LOCK_NAME
from brats3d.training.stop_signals import RunEvents

Workflow = Callable[..., ConfigWorkflow]
OPTIONS = {"epochs": 3, "batch_size": 1, "val_interval": 1, "network_def#num_res_units": 0}  # 3 cases: 9 steps


def state(run: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True)


def assert_same_as_uninterrupted(run: Path, whole: Path) -> None:
    for name in ("last", "best"):
        a, b = (state(folder, name) for folder in (run, whole))
        a, b = a.get("network", a), b.get("network", b)
        assert all(torch.equal(a[key], b[key]) for key in b)
    for name in ("epoch", "iteration", "epoch_end_pending", "best_metric", "best_epoch"):
        assert state(run)[name] == state(whole)[name], name
    for name in ("metrics.json", "checkpoints/best.json", "checkpoints/last.json"):
        assert json.loads((run / name).read_text()) == json.loads((whole / name).read_text()), name
    assert read_curves(run) == read_curves(whole)
    for tag in ("train_loss", "learning_rate"):
        assert read_scalars(run)[tag] == read_scalars(whole)[tag]


@pytest.fixture(autouse=True)
def heeds_interrupts() -> Iterator[None]:
    """Undo that a shell lets its background jobs ignore SIGINT, which a run respects."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(phantoms: Path, workflow: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a training that was not interrupted."""
    output = tmp_path_factory.mktemp("whole") / "run"
    workflow("train", dataset_dir=phantoms, output_dir=output, **OPTIONS).run()
    return output


@pytest.fixture
def train(phantoms: Path, workflow: Workflow, tmp_path: Path) -> Callable[..., ConfigWorkflow]:
    """Build a training in ``tmp_path / "run"`` without running it."""
    return lambda **more: workflow("train", dataset_dir=phantoms, output_dir=tmp_path / "run", **{**OPTIONS, **more})


@pytest.fixture(scope="module")
def started(phantoms: Path, workflow: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a training that was stopped after two steps."""
    output = tmp_path_factory.mktemp("started") / "run"
    built = workflow("train", dataset_dir=phantoms, output_dir=output, **OPTIONS)
    with pytest.raises(SystemExit):
        send(built, signal.SIGTERM, Events.ITERATION_STARTED(once=2)).run()
    return output


def send(built: ConfigWorkflow, signum: int, event: Any, validating: bool = False) -> ConfigWorkflow:
    """Send a signal to this process at an event of the trainer or of its evaluator."""
    (built.evaluator if validating else built.trainer).add_event_handler(event, lambda: os.kill(os.getpid(), signum))
    return built


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_after_a_signal_the_run_finishes_its_step_saves_and_exits(
    signum: int, code: int, train: Workflow, whole: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(SystemExit) as stopped:
        send(train(), signum, Events.ITERATION_STARTED(once=5)).run()
    assert stopped.value.code == code
    left = state(tmp_path / "run")
    assert (left["iteration"], left["epoch"], left["epoch_end_pending"]) == (5, 1, 0)
    line = f"stopped ({signal.Signals(signum).name}) and saved after step 2 of epoch 2; run the same command again"
    assert line in log.text
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before
    assert not [r for r in log.records if "terminating due to exception" in r.getMessage()]
    train().run()
    assert "resuming" in log.text and "after step 2 of epoch 2" in log.text
    assert_same_as_uninterrupted(tmp_path / "run", whole)


@pytest.mark.parametrize("epoch", [2, 3], ids=["in the middle", "in the last"])
def test_a_validation_stopped_by_a_signal_is_repeated_on_resume(
    epoch: int, train: Workflow, whole: Path, tmp_path: Path
) -> None:
    built = train()
    built.evaluator.add_event_handler(
        Events.ITERATION_STARTED,
        lambda engine: os.kill(os.getpid(), signal.SIGTERM) if engine.state.epoch == epoch else None,
    )
    with pytest.raises(SystemExit):
        built.run()
    left = state(tmp_path / "run")
    assert (left["iteration"], left["epoch"], left["epoch_end_pending"]) == (3 * epoch, epoch - 1, 1)
    train().run()
    assert_same_as_uninterrupted(tmp_path / "run", whole)


def test_a_run_stopped_at_the_last_step_of_an_epoch_validates_on_resume(
    train: Workflow, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        send(train(), signal.SIGTERM, Events.ITERATION_STARTED(once=3)).run()
    assert state(tmp_path / "run")["epoch_end_pending"] == 1
    with pytest.raises(SystemExit):  # and once more, before that validation is over
        send(train(), signal.SIGTERM, Events.ITERATION_STARTED, validating=True).run()
    assert state(tmp_path / "run")["epoch_end_pending"] == 1
    train().run()
    assert_same_as_uninterrupted(tmp_path / "run", whole)


def test_a_signal_after_the_last_step_is_kept_for_what_follows_the_training(train: Workflow) -> None:
    built = train(epochs=1)
    send(built, signal.SIGTERM, Events.COMPLETED).run()
    run = built.parser.get_parsed_content("state")
    assert run.finished and run.late_signal == signal.SIGTERM


def test_at_the_time_limit_a_run_saves_and_returns(
    train: Workflow, whole: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    left = []
    for _ in range(4):
        train(minutes=1e-9).run()
        left.append((state(tmp_path / "run")["iteration"], state(tmp_path / "run")["epoch_end_pending"]))
    assert left == [(1, 0), (2, 0), (3, 1), (4, 0)]  # the last one has validated before its step
    assert "stopped (time limit reached) and saved after step 1 of epoch 1" in log.text
    train().run()
    assert_same_as_uninterrupted(tmp_path / "run", whole)


def test_a_killed_run_resumes_from_the_last_save_within_an_epoch(train: Workflow, whole: Path, tmp_path: Path) -> None:
    built = train(checkpoint_minutes=1e-9)

    def cut_off() -> None:
        raise RuntimeError("power failure")

    built.trainer.add_event_handler(Events.ITERATION_STARTED(once=6), cut_off)
    with pytest.raises(RuntimeError):
        built.run()
    assert state(tmp_path / "run")["iteration"] == 5
    train().run()
    assert_same_as_uninterrupted(tmp_path / "run", whole)


def test_a_validation_that_is_repeated_on_resume_appears_once(train: Workflow, whole: Path, tmp_path: Path) -> None:
    built = train(checkpoint_minutes=1e-9)  # so that the state before the validation is saved

    def cut_off(engine) -> None:  # all is written and flushed, and the epoch's end is not saved
        if engine.state.epoch == 2:
            raise RuntimeError("power failure")

    keeper = next(
        handler
        for handler, *_ in built.trainer._event_handlers[Events.EPOCH_COMPLETED]
        if type(getattr(handler, "__self__", handler)).__name__ == "KeepCheckpoints"
    )
    built.trainer.remove_event_handler(keeper, Events.EPOCH_COMPLETED)
    built.trainer.add_event_handler(Events.EPOCH_COMPLETED, cut_off)
    built.trainer.add_event_handler(Events.EPOCH_COMPLETED, keeper)
    with pytest.raises(RuntimeError):
        built.run()
    left = state(tmp_path / "run")
    assert (left["iteration"], left["epoch"], left["epoch_end_pending"]) == (6, 1, 1)
    train().run()
    assert_same_as_uninterrupted(tmp_path / "run", whole)


def test_the_previous_state_is_used_if_the_last_is_damaged(
    train: Workflow, whole: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        send(train(checkpoint_minutes=1e-9), signal.SIGTERM, Events.ITERATION_STARTED(once=5)).run()
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:-999])
    (tmp_path / "run" / "settings.json").unlink()  # not read by brats3d
    train().run()
    assert "last.pt" in log.text and "previous.pt instead" in log.text
    assert_same_as_uninterrupted(tmp_path / "run", whole)


def test_the_previous_state_is_kept_until_a_newer_one_is_complete(
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
    assert_same_as_uninterrupted(tmp_path / "run", whole)


def refusal(built: ConfigWorkflow) -> Any:
    """Return the error that refuses a run."""
    with pytest.raises(RuntimeError) as caught:
        built.run()
    return cause_of(caught.value)


def test_a_run_whose_states_are_all_damaged_is_refused(train: Workflow, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        send(train(), signal.SIGTERM, Events.ITERATION_STARTED(once=5)).run()
    for name in ("last", "previous"):
        (tmp_path / "run" / "checkpoints" / f"{name}.pt").write_bytes(b"torn")
    error = refusal(train())
    assert isinstance(error, DataError) and error.subject == str(tmp_path / "run") and "last.pt" in error.problem


def test_temporary_files_of_a_killed_run_are_removed(train: Workflow, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    half, mine = folder / ".last.pt.0123456789ab.tmp", folder / ".notes.tmp"
    for file in (half, mine):
        file.write_bytes(b"half")
    train(epochs=1).run()
    assert not half.exists() and mine.exists()


def test_resume_never_refuses_a_folder_with_a_run_and_force_accepts_other_settings(
    train: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        send(train(), signal.SIGTERM, Events.ITERATION_STARTED(once=5)).run()
    assert refusal(train(resume="never")).subject == "output_dir"
    error = refusal(train(weight_decay=0.1))
    assert isinstance(error, UsageError) and error.problems == ("weight_decay was 1e-05, is 0.1",)
    assert "--resume force" in error.advice
    forced = train(weight_decay=0.1, learning_rate=1e-5, resume="force")
    forced.run()
    (group,) = forced.trainer.optimizer.param_groups
    assert (group["weight_decay"], group["initial_lr"]) == (0.1, 1e-5)
    rates = dict(read_scalars(tmp_path / "run")["learning_rate"])
    assert rates[5] > 1e-4 > 1e-5 >= rates[6]
    assert "is resumed with other settings: " in log.text
    for change in ("learning_rate was 0.001, is 1e-05", "weight_decay was 1e-05, is 0.1"):
        assert change in log.text
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["weight_decay"] == 0.1
    train(weight_decay=0.1, learning_rate=1e-5).run()  # the settings are now those of the run
    assert "is finished: epoch 3" in log.text


def test_a_folder_that_another_process_trains_in_is_refused_untouched(train: Workflow, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    half = folder / "checkpoints" / ".last.pt.0123456789ab.tmp"
    half.write_bytes(b"being written")
    with FileLock(folder / LOCK_NAME):
        assert refusal(train()).subject == "output_dir"
    assert {path.name for path in folder.iterdir()} == {"checkpoints", LOCK_NAME} and half.exists()


@pytest.mark.parametrize(("epoch", "refused"), [(1, False), (2, True), (None, True)])
def test_best_weights_without_a_state_to_resume_are_not_replaced(
    epoch: int | None, refused: bool, tmp_path: Path
) -> None:
    best = tmp_path / "checkpoints" / "best.pt"
    best.parent.mkdir()
    best.write_bytes(b"weights")
    if epoch is not None:  # a run that was killed in its first epoch may have no state
        card = {"modalities": list(MODALITIES), "regions": list(REGIONS), "network_def": {"_target_": "UNet"}}
        best.with_suffix(".json").write_text(json.dumps({**card, "best_metric": 0.5, "epoch": epoch}))
    for resume, is_refused in (("auto", refused), ("force", refused), ("never", True)):
        if is_refused:
            with pytest.raises(UsageError) as caught:
                find_run(tmp_path, resume)
            assert caught.value.subject == "output_dir"
        else:
            assert find_run(tmp_path, resume) is None


def test_a_run_without_scores_does_not_claim_to_have_weights(train: Workflow, tmp_path: Path, log) -> None:
    built = train(epochs=1)
    built.evaluator.add_event_handler(Events.COMPLETED, lambda engine: setattr(engine.state, "best_metric", math.nan))
    built.run()
    assert not (tmp_path / "run" / "checkpoints" / "best.pt").exists()
    (message,) = [r.getMessage() for r in log.records if "finished" in r.getMessage()]
    assert "weights in" not in message


def test_an_unknown_value_of_resume_is_refused(train: Workflow) -> None:
    error = refusal(train(resume="perhaps"))
    assert (error.subject, error.found) == ("resume", "perhaps")


def test_changed_data_are_refused_with_the_names_of_the_cases(
    phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
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
    plain[-7] ^= 1  # a different label of the same size
    file.write_bytes(gzip.compress(plain) if file.suffix == ".gz" else plain)
    error = refusal(workflow("train", dataset_dir=moved, output_dir=run, **OPTIONS))
    assert error.problems == (f"the files of 1 cases have changed ['{file.parent.name}']",)


@pytest.mark.parametrize(
    ("id_", "value", "difference"),
    [
        ("optimizer#betas", [0.8, 0.999], "optimizer#betas was None, is [0.8, 0.999]"),
        ("loss#batch", True, "loss#batch was None, is True"),
        ("train#random_transforms#3#prob", 0.25, "train#random_transforms#3#prob was 0.5, is 0.25"),
        ("train#random_transforms#3#_disabled_", True, "train#random_transforms#3#_disabled_ was None, is True"),
        ("train#degrading_transforms", [], "train#degrading_transforms was [{'_target_': 'RandGaussianNoised',"),
    ],
)
def test_another_loss_optimizer_or_transform_is_refused_with_the_id_that_differs(
    started: Path, train: Workflow, tmp_path: Path, id_: str, value: Any, difference: str, log: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(started, tmp_path / "run")
    (problem,) = refusal(train(**{id_: value})).problems
    assert problem.startswith(difference)
    train(**{id_: value}, resume="force", minutes=1e-9).run()
    assert difference in log.text


def test_knobs_that_do_not_change_what_is_learned_may_differ(started: Path, train: Workflow, tmp_path: Path) -> None:
    shutil.copytree(started, tmp_path / "run")
    train(num_workers=0, cache=0.1, full_every=0, score_rules="brats2020", ignore_memory=True, minutes=1e-9).run()
    assert state(tmp_path / "run")["iteration"] == 3


def test_the_trainer_has_the_events_of_a_run(train: Workflow) -> None:
    trainer = train().trainer
    assert all(trainer.has_registered_events(event) for event in (RunEvents.SAVE, RunEvents.SAVE_BEFORE_END))


def test_a_score_of_nan_is_never_the_best(train: Workflow, tmp_path: Path) -> None:
    built = train()

    def no_number(engine) -> None:
        engine.state.metrics["val_mean_dice"] = float("nan")
        engine.state.best_metric, engine.state.best_metric_epoch = float("nan"), engine.state.epoch  # as MONAI does

    built.evaluator.add_event_handler(Events.EPOCH_COMPLETED(lambda engine, epoch: epoch == 1), no_number)
    built.run()
    assert state(tmp_path / "run")["best_epoch"] > 1
    assert state(tmp_path / "run")["best_metric"] >= 0


@pytest.mark.slow
def test_a_signal_that_also_kills_the_workers_stops_the_run_after_a_step(
    train: Workflow, whole: Path, tmp_path: Path
) -> None:
    built = train(num_workers=2)

    def to_all(engine) -> None:
        for child in psutil.Process().children(recursive=True):
            if "resource_tracker" not in " ".join(child.cmdline()):
                child.terminate()
        os.kill(os.getpid(), signal.SIGTERM)

    built.trainer.add_event_handler(Events.ITERATION_STARTED(once=4), to_all)
    with pytest.raises(SystemExit) as stopped:
        built.run()
    assert stopped.value.code == 143
    assert state(tmp_path / "run")["iteration"] in (3, 4)
    train().run()
    assert_same_as_uninterrupted(tmp_path / "run", whole)
