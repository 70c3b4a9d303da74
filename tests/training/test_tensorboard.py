"""TensorBoard's points, pictures and settings, read back from the event files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from ignite.engine import Events
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from brats3d.errors import UsageError
from brats3d.networks.checkpoint_file import read_content
from brats3d.training import tensorboard as tensorboard
from brats3d.training.checkpoints import restore_run

SCORES = {"val_mean_dice", "val_dice_wt", "val_dice_tc", "val_dice_et"}
OF_EPOCHS = {"patches_per_second", "memory_gib"}
RANKS = ("best", "median", "worst")


def restore(run, path: Path) -> None:
    restore_run(run.state, run.trainer, path, read_content(path))


def read(output: Path) -> EventAccumulator:
    return EventAccumulator(
        str(output / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0}
    ).Reload()


def scalars(events: EventAccumulator) -> dict[str, list[tuple[int, float]]]:
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def repeatable(events: EventAccumulator) -> dict[str, list[tuple[int, float]]]:
    """Points that are the same in every run: of speed and memory, only the steps."""
    return {
        tag: [(step, 0 if tag in OF_EPOCHS else value) for step, value in points]
        for tag, points in scalars(events).items()
    }


def text(events: EventAccumulator, tag: str) -> list[str]:
    return [event.tensor_proto.string_val[0].decode() for event in events.Tensors(f"{tag}/text_summary")]


def stop_before(run, iteration: int, error: type[BaseException] = KeyboardInterrupt) -> None:
    def stop() -> None:
        raise error

    run.trainer.add_event_handler(Events.ITERATION_STARTED(once=iteration), stop)
    with pytest.raises(error):
        run.trainer.run()


def test_every_point_is_at_the_global_iteration(toy_run, tmp_path):
    run, seen = toy_run(output=tmp_path, tensorboard=True), []
    group = run.optimizer.param_groups[0]
    run.trainer.add_event_handler(Events.ITERATION_STARTED, lambda: seen.append([group["lr"]]))
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen[-1].append(e.state.output["loss"].item()))
    run.trainer.run()
    points = scalars(read(tmp_path))
    assert set(points) == {"train_loss", "learning_rate"} | SCORES | OF_EPOCHS
    rates, losses = zip(*seen, strict=True)
    assert points["train_loss"] == list(enumerate(np.float32(losses), 1))
    assert points["learning_rate"] == list(enumerate(np.float32(rates), 1))  # that with which the step was taken
    for tag in SCORES:
        assert [step for step, _ in points[tag]] == [2, 4, 6]
        assert points[tag][-1][1] == np.float32(run.evaluator.state.metrics[tag])


def test_losses_are_read_from_the_device_several_steps_at_a_time(toy_run, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "READ_EVERY", 2)
    run, unread = toy_run(epochs=1, cases=5, batch_size=1, output=tmp_path, tensorboard=True), []
    handlers = [getattr(handler, "__self__", None) for handler, *_ in run.trainer._event_handlers[Events.EPOCH_STARTED]]
    (tracker,) = [handler for handler in handlers if isinstance(handler, tensorboard.TrackRun)]
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: unread.append(len(tracker._unread)))
    run.trainer.run()
    assert unread == [1, 0, 1, 0, 1]
    assert [step for step, _ in scalars(read(tmp_path))["train_loss"]] == [1, 2, 3, 4, 5]


def test_validations_are_at_the_steps_of_the_interval(toy_run, tmp_path):
    toy_run(epochs=5, interval=2, output=tmp_path, tensorboard=True).trainer.run()
    assert [step for step, _ in scalars(read(tmp_path))["val_mean_dice"]] == [4, 8, 10]


def test_speed_and_memory_are_written_at_the_end_of_each_epoch(toy_run, tmp_path):
    run, seconds = toy_run(epochs=2, output=tmp_path, tensorboard=True), []
    run.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: seconds.append(e.state.times[Events.EPOCH_COMPLETED.name])
    )
    run.trainer.run()
    points = scalars(read(tmp_path))
    patches = len(run.trainer.state.output["image"]) * 2  # iterations per epoch
    assert points["patches_per_second"] == [
        (k, pytest.approx(patches / s)) for k, s in zip((2, 4), seconds, strict=True)
    ]
    assert [step for step, _ in points["memory_gib"]] == [2, 4]
    assert all(0.05 < gib < 50 for _, gib in points["memory_gib"])


def test_each_validation_draws_and_names_the_best_median_and_worst_case(toy_run, tmp_path):
    run = toy_run(epochs=2, output=tmp_path, tensorboard=True)
    run.trainer.run()
    events = read(tmp_path)
    assert sorted(events.Tags()["images"]) == sorted(f"cases/{rank}" for rank in RANKS)
    for tag in events.Tags()["images"]:
        assert [event.step for event in events.Images(tag)] == [2, 4]
    picture = imread(io.BytesIO(events.Images("cases/best")[0].encoded_image_string))
    assert picture.shape[:2] == (8, 24)  # image, reference and prediction of 8 x 8
    assert np.ptp(picture[:, :8, :3], axis=-1).max() == 0
    assert np.ptp(picture[:, 8:16, :3], axis=-1).max() > 0.1
    dice = {}
    for row in run.evaluator.state.metric_details["val_mean_dice"]:
        dice.setdefault(row.case_id, []).append(row.dice)
    order = sorted(dice, key=lambda name: (np.mean(dice[name]), name))
    names = text(events, "cases")[-1]
    for rank, case_id in zip(RANKS, (order[-1], order[len(order) // 2], order[0]), strict=True):
        assert f"{rank}: {case_id}, mean Dice {np.mean(dice[case_id]):.3f}" in names


def test_the_settings_are_written_as_text(toy_run, tmp_path):
    toy_run(epochs=1, output=tmp_path, tensorboard=True).trainer.run()
    (settings,) = text(read(tmp_path), "settings")
    assert json.loads(settings.removeprefix("```json").removesuffix("```"))["epochs"] == 1


def test_the_settings_are_hyperparameters_in_the_same_file(toy_run, tmp_path):
    toy_run(epochs=1, output=tmp_path, tensorboard=True).trainer.run()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    plugin = read(tmp_path).PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["epochs"].number_value == 1 and start.hparams["modalities"].string_value == "['t1']"
    experiment = HParamsPluginData.FromString(plugin["_hparams_/experiment"]).experiment
    assert [metric.name.tag for metric in experiment.metric_infos] == ["val_mean_dice"]


def test_paths_that_are_not_utf8(toy_run, tmp_path):
    name = b"M\xfcller".decode(errors="surrogateescape")
    run = toy_run(epochs=1, output=tmp_path, tensorboard=True)
    run.state.settings = {**run.state.settings, "dataset_dir": f"/data/{name}"}
    run.trainer.run()
    plugin = read(tmp_path).PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["dataset_dir"].string_value == "/data/M\u00fcller"
    run.state.output_dir = tmp_path / name
    with pytest.raises(UsageError) as error:
        tensorboard.TrackRun(run.state)
    assert error.value.subject == "output_dir"


@pytest.mark.parametrize("iteration", [3, 4, 6], ids=["between epochs", "within one", "in the last"])
def test_a_resumed_run_has_the_points_of_an_uninterrupted_one(toy_run, tmp_path, iteration):
    toy_run(output=tmp_path / "whole", tensorboard=True).trainer.run()
    parts = {"output": tmp_path / "parts", "tensorboard": True}
    stop_before(toy_run(**parts), iteration)
    resumed = toy_run(**parts)
    restore(resumed, tmp_path / "parts" / "checkpoints" / "last.pt")
    resumed.trainer.run()
    whole, again = read(tmp_path / "whole"), read(tmp_path / "parts")
    assert repeatable(again) == repeatable(whole)
    assert [e.step for e in again.Images("cases/best")] == [2, 4, 6]
    assert len(again.Tensors("settings/text_summary")) == 1


def test_points_are_flushed_before_the_checkpoint_is_written(toy_run, tmp_path):
    run, seen = toy_run(output=tmp_path, tensorboard=True), []
    run.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(scalars(read(tmp_path))))
    run.trainer.run()
    assert [len(points["train_loss"]) for points in seen] == [2, 4, 6]
    assert [len(points["val_dice_wt"]) for points in seen] == [1, 2, 3]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_is_raised_and_the_points_so_far_are_on_disk(toy_run, tmp_path, error):
    stop_before(toy_run(output=tmp_path, tensorboard=True), 4, error)
    assert [step for step, _ in scalars(read(tmp_path))["train_loss"]] == [1, 2, 3]


def test_a_validation_outside_a_training_writes_nothing(toy_run, tmp_path):
    toy_run(output=tmp_path, tensorboard=True, checkpoints=False).evaluator.run()
    assert not list(tmp_path.iterdir())
