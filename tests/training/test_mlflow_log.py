"""MLflow's parameters, points and files, read back from a store on the disk."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events

from brats3d.bundle import config_files, installed_bundle
from brats3d.config_reader import read_knobs
from brats3d.errors import UsageError
from brats3d.training import LogToMLflow, import_mlflow, run_training
from brats3d.training.stop_signals import RunEvents

TINY = (
    "--patch_size [32,32,32] --network_def#channels [4,8,8,8,8] --epochs 1 --device cpu --window [48,48,48] "
    "--tracking mlflow --experiment_name glioma"
)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of MLflow without runs. Creating one takes seconds, copying it does not."""
    mlflow = pytest.importorskip("mlflow", reason='MLflow is not installed: pip install "brats3d[mlflow]"')
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def client(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """MLflow's client for the store in the working directory, a new folder."""
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    return mlflow.MlflowClient()


def runs_of(client, experiment: str = "brats3d") -> list:
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def points(client, run_id: str, metric: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, metric))


def tracked(toy_run, **options) -> SimpleNamespace:
    run = toy_run(output=Path("runs/toy"), **options)
    LogToMLflow(run.state).attach(run.trainer)
    return run


def stop_after(run, iteration: int) -> None:
    def stop() -> None:
        run.trainer.fire_event(RunEvents.SAVE)
        raise KeyboardInterrupt

    run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), stop)
    with pytest.raises(KeyboardInterrupt):
        run_training(run.trainer, run.state)


def test_knobs_points_and_files_are_logged_at_the_global_iteration(toy_run, client):
    run, losses = tracked(toy_run, interval=2), []
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
    run_training(run.trainer, run.state)
    (logged,) = runs_of(client)
    assert (logged.info.run_name, logged.info.status) == ("runs/toy", "FINISHED")
    assert logged.data.params == {"epochs": "3", "modalities": "['t1']", "patch_size": "[8, 8, 8]"}
    assert points(client, logged.info.run_id, "train_loss") == list(enumerate(losses, 1))
    rates = dict(points(client, logged.info.run_id, "learning_rate"))
    assert list(rates) == [1, 2, 3, 4, 5, 6] and max(rates.values()) == pytest.approx(0.05)
    for region in ("wt", "tc", "et"):
        dice = points(client, logged.info.run_id, f"val_dice_{region}")
        assert [step for step, _ in dice] == [4, 6]  # every other epoch, and the last
        assert dice[-1][1] == run.evaluator.state.metrics[f"val_dice_{region}"]
    assert [file.path for file in client.list_artifacts(logged.info.run_id)] == ["settings.json"]


def test_the_weights_are_those_of_a_training_without_it(toy_run, client):
    runs = [tracked(toy_run), toy_run()]
    run_training(runs[0].trainer, runs[0].state)
    runs[1].trainer.run()
    one, other = (run.network.state_dict().values() for run in runs)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_resumed_run_continues_its_mlflow_run_even_if_a_knob_has_changed(toy_run, client):
    whole = tracked(toy_run)
    run_training(whole.trainer, whole.state)
    expected = points(client, runs_of(client)[0].info.run_id, "train_loss")
    shutil.rmtree("runs/toy")
    stop_after(tracked(toy_run), iteration=3)
    assert sorted(run.info.status for run in runs_of(client)) == ["FINISHED", "RUNNING"]
    resumed = tracked(toy_run)
    resumed.state.settings |= {"minutes": 5}
    resumed.state.free_settings = ["minutes"]
    run_training(resumed.trainer, resumed.state)
    second, _ = sorted(runs_of(client), key=lambda run: -run.info.start_time)
    assert len(runs_of(client)) == 2 and second.info.status == "FINISHED"
    assert points(client, second.info.run_id, "train_loss") == expected
    assert "minutes" not in second.data.params


def test_a_run_resumed_with_another_store_is_logged_there_as_a_new_one(toy_run, client, empty_store):
    stop_after(tracked(toy_run), iteration=3)
    earlier = json.loads(Path("runs/toy/mlflow.json").read_text())["run_id"]
    shutil.copyfile(empty_store, "other.db")
    run = toy_run(output=Path("runs/toy"))
    LogToMLflow(run.state, "sqlite:///other.db", "glioma").attach(run.trainer)
    run_training(run.trainer, run.state)
    other = type(client)("sqlite:///other.db")
    (logged,) = runs_of(other, "glioma")
    assert logged.info.run_id != earlier
    assert [step for step, _ in points(other, logged.info.run_id, "train_loss")] == [4, 5, 6]


def test_the_training_goes_on_if_the_store_fails(toy_run, client, log):
    run = tracked(toy_run)
    run.trainer.add_event_handler(Events.EPOCH_STARTED(once=2), lambda: Path("mlflow.db").write_bytes(b"damaged" * 99))
    run_training(run.trainer, run.state)
    assert run.trainer.state.epoch == 3
    assert [r.getMessage()[:17] for r in log.records if "MLflow" in r.getMessage()] == ["MLflow has failed"]


def test_a_store_that_cannot_be_used_is_an_error_at_the_start(toy_run, client):
    run = toy_run(output=Path("runs/toy"))
    LogToMLflow(run.state, "wrong://store").attach(run.trainer)
    with pytest.raises(UsageError, match="wrong://store") as error:
        run_training(run.trainer, run.state)
    assert error.value.subject == "tracking_uri"


def test_without_mlflow_one_line_says_what_to_install(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError) as error:
        import_mlflow()
    assert error.value.subject == "tracking"
    code, _, printed = run("train", tmp_path, "--tracking", "mlflow")
    assert code == 2
    assert printed == 'brats3d: error: tracking: MLflow is not installed; install it: pip install "brats3d[mlflow]"\n'


def test_train_logs_to_mlflow_beside_tensorboard(run, client, make_dataset):
    code, printed, _ = run(
        "train", make_dataset(), *TINY.split(), "--tracking", "mlflow", "--experiment_name", "glioma"
    )
    assert code == 0
    settings = installed_bundle() / "configs" / "mlflow.yaml"
    assert f"--tracking {settings}" in printed  # the equivalent command
    (logged,) = runs_of(client, "glioma")
    assert list(logged.data.params) and set(logged.data.params) == {k.name for k in read_knobs(config_files("train"))}
    assert (logged.data.params["epochs"], logged.data.params["seed"]) == ("1", "0")
    assert {"train_loss", "learning_rate", "val_mean_dice", "val_dice_wt"} <= set(logged.data.metrics)
    files = {file.path for file in client.list_artifacts(logged.info.run_id)}
    assert files == {"settings.json", "metrics.json"}
    assert {path.name for path in Path().iterdir()} == {"data", "mlflow.db", "mlruns", "runs"}
    assert list(Path("runs/fold0/tensorboard").iterdir())
