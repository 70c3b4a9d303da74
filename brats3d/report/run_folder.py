"""What the folder of a run says: its knobs, scores, weights and curves, and which cases went wrong."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from brats3d.bundle import command_line, config_files
from brats3d.cases import natural_key
from brats3d.evaluation import ScoreRow, group_by_case, mean_dice_by_case, read_scores
from brats3d.files import read_json
from brats3d.labels import MODALITIES, order_modalities
from brats3d.report.curves import read_scalars

POOR_DICE = 0.5
"""A region below this is listed as a failure."""


@dataclass(frozen=True)
class Run:
    """What a run has left behind.

    Args:
        folder: the run's output_dir.
        settings: the knobs; empty where the folder has none.
        rows: one for each case and region, in natural order.
        epoch: after which the scored weights were taken; None where that is not said.
        card: of the best weights; empty where there is none.
        modalities: the sequences that the network was given; all four where nothing says which.
        curves: TensorBoard tag -> (iteration, value) pairs.
        scored_at: the time of metrics.json, which may be that of a copy.
        remarks: what the folder lacks, and what to do about it.
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

    @property
    def by_case(self) -> dict[str, dict[str, ScoreRow]]:
        """case_id -> region -> row."""
        return group_by_case(self.rows)

    @property
    def ranked(self) -> list[str]:
        """The cases from the lowest mean Dice over the regions to the highest."""
        means = mean_dice_by_case(self.rows)
        return sorted(means, key=lambda name: (means[name], natural_key(name)))

    @property
    def evaluate_line(self) -> str:
        """The command that writes scores and segmentations, with the knobs that choose cases, sequences and windows."""
        where = self.settings.get("dataset_dir") or "DATASET_DIR"
        chosen = _chosen(self.settings, "train") if "dataset_dir" in self.settings else {}
        knobs = {name: value for name, value in chosen.items() if name in _SCORED_WITH}
        if not isinstance(where, str):  # several folders, which brats3d evaluate does not take
            return command_line("evaluate", {"dataset_dir": where, "output_dir": str(self.folder), **knobs})
        words = ["brats3d evaluate", _word(where), "--output", shlex.quote(str(self.folder))]
        return " ".join([*words, *(f"--{name} {_word(value)}" for name, value in knobs.items())])


@dataclass(frozen=True)
class Failure:
    """A region of a case that went wrong.

    Args:
        case_id: whose.
        region: WT, TC or ET.
        kind: ``"missed"`` (nothing predicted), ``"spurious"`` (nothing there) or ``"poor"`` (Dice below 0.5).
        dice: of the region.
        ref_volume_ml: what is there.
        pred_volume_ml: what was predicted.
    """

    case_id: str
    region: str
    kind: str
    dice: float
    ref_volume_ml: float
    pred_volume_ml: float


def read_run(run_dir: str | Path) -> Run:
    """Read what a run has left in its folder.

    Raises:
        FileNotFoundError: if there is no such folder, or it holds no metrics.json.
        ValueError: if metrics.json or settings.json is damaged, or a row lacks what every row has.
    """
    folder = Path(run_dir).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"run_dir: there is no folder {folder}; expected the output_dir of brats3d train")
    scores = folder / "metrics.json"
    if not scores.is_file():
        raise FileNotFoundError(
            f"{scores}: no such file; expected the scores of a run; run brats3d evaluate DATASET_DIR --output "
            f"{shlex.quote(str(folder))} first"
        )
    content = read_scores(scores)
    remarks = []
    settings, card = {}, {}
    if (path := folder / "settings.json").is_file():
        settings = _read_mapping(path)
    else:
        remarks.append(f"{path} is not there: what was trained is not known")
    if (path := folder / "checkpoints" / "best.json").is_file():
        try:
            card = _read_mapping(path)
        except ValueError as error:
            remarks.append(str(error))
    curves: Mapping[str, Sequence[tuple[int, float]]] = {}
    try:
        curves = read_scalars(folder)
    except (FileNotFoundError, ValueError) as error:
        remarks.append(str(error))
    return Run(
        folder=folder,
        settings=settings,
        rows=content.rows,
        epoch=content.epoch if content.epoch is not None else card.get("epoch"),
        card=card,
        modalities=_modalities(settings, card, folder),
        curves=curves,
        scored_at=datetime.fromtimestamp(scores.stat().st_mtime, UTC),
        remarks=tuple(remarks),
    )


def find_failures(rows: Sequence[ScoreRow]) -> list[Failure]:
    """Regions that were missed, are spurious or have a Dice below :data:`POOR_DICE`; worst and largest first."""
    found = []
    for row in rows:
        there, predicted = row.ref_volume_ml, row.pred_volume_ml
        kind = "missed" if there and not predicted else "spurious" if predicted and not there else "poor"
        if kind != "poor" or row.dice < POOR_DICE:
            found.append(Failure(row.case_id, row.region, kind, row.dice, there, predicted))
    return sorted(found, key=lambda f: (f.dice, -max(f.ref_volume_ml, f.pred_volume_ml), natural_key(f.case_id)))


def repeat_lines(run: Run) -> list[str]:
    """The commands that train, score and report such a run again; knobs that have the config's value are left out."""
    folder = shlex.quote(str(run.folder))
    lines = [f"brats3d report {folder}"]
    if not run.settings:
        return lines
    # A pretraining makes its cases itself, and its validation is its evaluation.
    workflow = "train" if "dataset_dir" in run.settings else "pretrain"
    knobs, words = _chosen(run.settings, workflow), ["brats3d", workflow]
    if workflow == "train":
        where = run.settings["dataset_dir"] or "DATASET_DIR"
        lines.insert(0, run.evaluate_line)
        if not isinstance(where, str):
            ids = {"dataset_dir": where, "output_dir": str(run.folder), **knobs}
            return [command_line("train", ids), *lines]
        words.append(_word(where))
    words += ["--output", folder]
    for name, value in knobs.items():
        words += [f"--{name}", _word(value)]
    return [" ".join(words), *lines]


_SCORED_WITH = ("fold", "modalities", "datalist", "label_convention", "patch_size", "roi_size", "overlap", "amp")
"""Settings that an evaluation has to be given as the training was."""

_OWN_PLACE = frozenset({"dataset_dir", "output_dir"})
"""Settings that the command takes in their own way."""


def _chosen(settings: Mapping[str, Any], workflow: str) -> dict[str, Any]:
    """The knobs whose value is not the config's; those that the config computes depend on the machine."""
    import yaml

    config = yaml.safe_load(config_files(workflow)[0].read_text(encoding="utf-8"))
    chosen = {}
    for name, value in settings.items():
        default = config.get(name)
        if isinstance(default, str) and default.startswith("@"):
            default = settings.get(default[1:])
        computed = isinstance(default, str) and default.startswith("$")
        if name in config and name not in _OWN_PLACE and not computed and value != default:
            chosen[name] = value
    return chosen


def _word(value: Any) -> str:
    """A value as one word of a command line, as the commands read it."""
    plain = {None: "null", True: "true", False: "false"}
    text = plain[value] if value is None or isinstance(value, bool) else str(value)
    return shlex.quote(text)


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except ValueError as error:  # not JSON, or not text
        raise ValueError(f"{path}: is damaged ({error}); expected the JSON of a run; {_ADVICE}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping, got {content!r:.60}; {_ADVICE}")
    return content


def _modalities(settings: Mapping[str, Any], card: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    try:
        return order_modalities(settings.get("modalities") or card.get("modalities") or MODALITIES)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder}: {error}; {_ADVICE}") from None


_ADVICE = "run brats3d evaluate again, or copy the whole folder of the run again"
