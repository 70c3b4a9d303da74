"""Save the predicted quality of the cases that are evaluated, to compare it with their scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events

from brats3d.data import nest_regions
from brats3d.evaluation import BatchProbabilities
from brats3d.networks import read_card
from brats3d.quality.quality_file import QUALITY_NAME, write_quality
from brats3d.quality.quality_model import QualityModel, RegionQuality


class SaveQuality:
    """Evaluator handler that writes ``<output_dir>/quality.json`` if the card of the weights has a quality model.

    Without a model, the file of an earlier evaluation is emptied.

    Args:
        output_dir: folder of the run.
        checkpoint: the weights.
    """

    def __init__(self, output_dir: str | Path, checkpoint: str | Path) -> None:
        self.path = Path(output_dir) / QUALITY_NAME
        self.checkpoint = checkpoint
        self._model: QualityModel | None = None
        self._batch = BatchProbabilities()
        self._found: dict[str, dict[str, RegionQuality]] = {}

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self._read_model)
        self._batch.attach(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _read_model(self) -> None:
        content = read_card(self.checkpoint).get("quality")
        model = None if content is None else QualityModel.from_json(content, f"the card of {self.checkpoint}")
        self._model = model if model is not None and model.dice else None

    def _write(self) -> None:
        if self._found or self.path.is_file():
            write_quality(self.path, self._found)

    def __call__(self, engine: Engine) -> None:
        """Predict the quality of the batch's cases; ``pred`` is regions (3, h, w, d)."""
        if self._model is None:
            return
        for item, out in zip(engine.state.batch, engine.state.output, strict=True):
            case_id, regions = str(item["case_id"]), nest_regions(torch.as_tensor(out["pred"]).cpu()).numpy()
            voxel_ml = float(abs(np.linalg.det(np.asarray(out["label"].affine)[:3, :3]))) / 1000
            self._found[case_id] = self._model.predict(self._batch.cropped(case_id), regions, voxel_ml)
