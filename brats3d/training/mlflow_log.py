"""Log a training run to MLflow (https://mlflow.org), beside TensorBoard, every point at the global iteration.

Parameters: the knobs. Metrics: ``train_loss`` and ``learning_rate`` of each iteration, and the scores of each
validation, under the same names as in TensorBoard. Artifacts: ``settings.json``, and ``metrics.json`` at the end.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Trainer
from monai.utils.enums import CommonKeys as Keys

from brats3d.cases import readable_name
from brats3d.errors import UsageError
from brats3d.files import first_line, read_json, write_json
from brats3d.training.run_state import RunState
from brats3d.training.stop_signals import RunEvents
from brats3d.training.tensorboard import READ_EVERY

logger = logging.getLogger("brats3d")


def import_mlflow() -> Any:
    """Import MLflow.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import mlflow
    except ModuleNotFoundError as error:
        if error.name != "mlflow":
            raise
        advice = 'install it: pip install "brats3d[mlflow]"'
        raise UsageError("tracking", "MLflow is not installed", advice=advice) from None
    return mlflow


class LogToMLflow:
    """Handler of the trainer that logs to MLflow; ``--tracking`` adds it, with the settings in ``mlflow.yaml``.

    A resumed run continues its MLflow run, whose identifier is in ``mlflow.json`` in the run's folder; its parameters
    remain those of the first start. (MONAI's ``MLFlowHandler`` fails if a knob such as ``minutes`` has changed, and
    writes to the store at every step.) A run that was stopped has the status RUNNING until it is resumed and finished.

    If the store fails later, a warning is logged, and the training continues without MLflow.

    Args:
        run: the state of the run.
        tracking_uri: address of MLflow's store or server; None = MLflow's default: ``$MLFLOW_TRACKING_URI`` if it is
            set, else ``mlflow.db`` in the working directory.
        experiment_name: the experiment, created if missing. The run has the name of its folder.

    Raises:
        UsageError: if MLflow is not installed; when the training starts, if the store cannot be used.
    """

    def __init__(self, run: RunState, tracking_uri: str | None = None, experiment_name: str = "brats3d") -> None:
        self.run = run
        self.tracking_uri = tracking_uri
        self.experiment_name = experiment_name
        self._mlflow = import_mlflow()
        self._client: Any = None  # None before the start and after a failure
        self._run_id = ""
        self._unread: list[tuple[int, int, torch.Tensor, float]] = []

    def attach(self, engine: Trainer) -> None:
        """Register with the trainer and with the evaluator."""
        self._trainer = engine
        engine.register_events(*RunEvents)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add_step)
        for event in (RunEvents.SAVE, RunEvents.SAVE_BEFORE_END, Events.EPOCH_COMPLETED):
            engine.add_event_handler(event, self._log_steps)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        self.run.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._log_scores)

    def _start(self, engine: Engine) -> None:
        """Create the MLflow run, or reopen that of an earlier process."""
        record = self.run.output_dir / "mlflow.json"
        self._unread.clear()
        try:
            self._client = self._mlflow.MlflowClient(tracking_uri=self.tracking_uri)
            if not (self.run.resumed_from and record.is_file() and self._reopen(read_json(record)["run_id"])):
                self._create()
            self._client.log_artifact(self._run_id, self.run.output_dir / "settings.json")
        except Exception as error:  # MLflow's own, and those of the database, the network or the disk
            problem = f"MLflow cannot log to {self.tracking_uri or self._mlflow.get_tracking_uri()}"
            advice = 'check --tracking_uri; a store on this machine needs pip install "brats3d[mlflow]"'
            raise UsageError("tracking_uri", f"{problem} ({first_line(error)})", advice=advice) from error
        write_json(record, {"run_id": self._run_id})

    def _reopen(self, run_id: str) -> bool:
        """Continue an MLflow run; return False if it is not in this store."""
        try:
            self._client.update_run(run_id, status="RUNNING")
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        self._run_id = run_id
        return True

    def _create(self) -> None:
        entities = self._mlflow.entities
        experiment = self._client.get_experiment_by_name(self.experiment_name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(self.experiment_name)
        name = readable_name(str(self.run.output_dir))
        self._run_id = self._client.create_run(experiment_id, run_name=name).info.run_id
        knobs = self.run.settings.items()
        params = [entities.Param(knob, readable_name(str(value))) for knob, value in knobs]
        self._client.log_batch(self._run_id, params=params)

    def _add_step(self, engine: Trainer) -> None:
        rate = float(engine.optimizer.param_groups[0]["lr"])
        self._unread.append((engine.state.iteration, _now_ms(), engine.state.output[Keys.LOSS], rate))
        if len(self._unread) >= READ_EVERY:
            self._log_steps()

    def _log_steps(self) -> None:
        if not self._unread:
            return
        steps, self._unread = self._unread, []
        losses = torch.stack([loss for _, _, loss, _ in steps]).tolist()
        points = [("train_loss", loss, at_ms, step) for (step, at_ms, _, _), loss in zip(steps, losses, strict=True)]
        self._log(points + [("learning_rate", rate, at_ms, step) for step, at_ms, _, rate in steps])

    def _log_scores(self, engine: Engine) -> None:
        step = self._trainer.state.iteration
        self._log([(name, float(value), _now_ms(), step) for name, value in engine.state.metrics.items()])

    def _log(self, points: list[tuple[str, float, int, int]]) -> None:
        """Log points: name, value, milliseconds since 1970, iteration."""
        metrics = [self._mlflow.entities.Metric(*point) for point in points]
        self._attempt("log_batch", metrics=metrics)

    def _finish(self) -> None:
        if (scores := self.run.output_dir / "metrics.json").is_file():
            self._attempt("log_artifact", scores)
        self._attempt("set_terminated")

    def _attempt(self, method: str, *arguments: Any, **options: Any) -> None:
        """Call a method of MLflow's client; after a failure, warn and log no more."""
        if self._client is None:
            return
        try:
            getattr(self._client, method)(self._run_id, *arguments, **options)
        except Exception as error:
            self._client = None
            logger.warning("MLflow has failed (%s); the training continues without it", first_line(error))


def _now_ms() -> int:
    return int(time.time() * 1000)
