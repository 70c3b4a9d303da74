"""The folder of a run: its settings, scores, weights' card and curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from brats3d.cases import natural_key
from brats3d.errors import DataError, NotFoundError
from brats3d.evaluation import ScoreRow, group_by_case, mean_dice_by_case, read_scores
from brats3d.files import read_json
from brats3d.labels import MODALITIES, order_modalities
from brats3d.postprocessing import CHOICE_NAME, PostprocessingChoice, read_choice
from brats3d.quality import QUALITY_NAME, Predictions, read_quality
from brats3d.report.curves import read_scalars

_ADVICE = "restore the file, or remove it"


@dataclass(frozen=True)
class Run:
    """The results of a run.

    Args:
        folder: the run's output_dir.
        settings: the knobs; empty if the folder has no settings.json.
        rows: one for each case and region, in natural order.
        epoch: the epoch of the scored weights; None if unknown.
        card: the card of the best weights; empty if there is none.
        modalities: the network's input sequences; all four if unknown.
        curves: TensorBoard tag -> (iteration, value) pairs.
        scored_at: modification time of metrics.json, which may be that of a copy.
        remarks: what the folder lacks, and what to do about it.
        postprocessing: the chosen values of post-processing, from postprocessing.json; None if there are none.
        folds: the runs of a cross-validation, each of which scored other cases; empty for a single run.
        quality: case_id -> region -> predicted quality, from quality.json; empty if the weights predict none.
    """

    folder: Path
    settings: Mapping[str, Any] = field(hash=False)
    rows: tuple[ScoreRow, ...]
    epoch: int | None
    card: Mapping[str, Any] = field(hash=False)
    modalities: tuple[str, ...]
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(hash=False)
    scored_at: datetime
    remarks: tuple[str, ...] = ()
    postprocessing: PostprocessingChoice | None = None
    folds: tuple[Run, ...] = ()
    quality: Predictions = field(hash=False, default_factory=dict)

    @cached_property
    def by_case(self) -> dict[str, dict[str, ScoreRow]]:
        """case_id -> region -> score row."""
        return group_by_case(self.rows)

    @cached_property
    def segmentations(self) -> dict[str, Path]:
        """case_id -> its segmentation, which need not exist."""
        runs = self.folds or (self,)
        return {name: run.folder / "segmentations" / f"{name}.nii.gz" for run in runs for name in run.by_case}

    @cached_property
    def ranked(self) -> list[str]:
        """The cases from the lowest mean Dice over the regions to the highest."""
        means = mean_dice_by_case(self.rows)
        return sorted(means, key=lambda name: (means[name], natural_key(name)))


def read_run(run_dir: str | Path) -> Run:
    """Read the results of a run from its folder.

    Raises:
        NotFoundError: if the folder does not exist.
        DataError: if metrics.json is missing, or metrics.json or settings.json is damaged.
    """
    folder = Path(run_dir).expanduser()
    if not folder.is_dir():
        raise NotFoundError("run_dir", f"there is no folder {folder}", expected="the output_dir of brats3d train")
    scores = folder / "metrics.json"
    if not scores.is_file():
        raise DataError(scores, "no such file", expected="the scores of a run", advice="run brats3d evaluate first")
    content = read_scores(scores)
    settings: Mapping[str, Any] = {}
    remarks: list[str] = []
    if (path := folder / "settings.json").is_file():
        settings = read_mapping(path)
    else:
        remarks.append(f"{path} is missing: the settings of the training are unknown")

    def optional(read: Callable[[Path], Any], path: Path, default: Any) -> Any:
        """Return what a file holds; the default, with a remark, if it is damaged."""
        try:
            return read(path) if path.exists() else default
        except DataError as error:
            remarks.append(str(error))
            return default

    card = optional(read_mapping, folder / "checkpoints" / "best.json", {})
    postprocessing = optional(read_choice, folder / CHOICE_NAME, None)
    curves = optional(read_scalars, folder, {})
    quality = optional(read_quality, folder / QUALITY_NAME, {})
    return Run(
        folder=folder,
        settings=settings,
        rows=content.rows,
        epoch=card.get("epoch") if content.epoch is None else content.epoch,
        card=card,
        modalities=_modalities(settings, card, folder),
        curves=curves,
        scored_at=datetime.fromtimestamp(scores.stat().st_mtime, UTC),
        remarks=tuple(remarks),
        postprocessing=postprocessing,
        quality=quality,
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file of a run.

    Raises:
        DataError: if it is not a mapping.
    """
    try:
        content = read_json(path)
    except ValueError as error:  # not JSON, or not text
        raise DataError(path, f"damaged ({error})", expected="the JSON of a run", advice=_ADVICE) from error
    if not isinstance(content, dict):
        raise DataError(path, expected="a mapping", found=content, advice=_ADVICE)
    return content


def _modalities(settings: Mapping[str, Any], card: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    try:
        return order_modalities(settings.get("modalities") or card.get("modalities") or MODALITIES)
    except (ValueError, TypeError) as error:
        raise DataError(folder / "settings.json", str(error), advice=_ADVICE) from None
