"""What a run was, and whether it may go on: its state on disk, its settings and its data, compared by name."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.engines import Evaluator, Trainer

from brats3d.cases import item_to_case, signature
from brats3d.files import read_settings, write_whole
from brats3d.networks import describe_part, read_content
from brats3d.training.checkpoints import LAST, PREVIOUS

logger = logging.getLogger("brats3d")

RESUME = ("auto", "force", "never")
"""``auto`` goes on with the run in the folder, if there is one and its settings and data are the same; ``force`` also
if they are not; ``never`` refuses a folder that holds a run."""

FREE_SETTINGS = frozenset(
    {
        "device",
        "augment_on_device",
        "num_workers",
        "cache",
        "cache_dir",
        "output_dir",
        "dataset_dir",
        "datalist",
        "full_every",
    }
    | {"minutes", "checkpoint_minutes", "resume"}
)
"""Knobs that may differ when a run goes on: they change where and how fast, not what is learned. The data set may have
moved: its cases are compared instead."""

FREE_WITH_PHANTOMS = FREE_SETTINGS | {"batch_size", "pool", "patches_per_phantom", "val_interval"}
"""As above, of a pretraining: it may move to another device, whose defaults differ, or be given more time."""


@dataclass(frozen=True)
class SavedRun:
    """A state that a run has left.

    Args:
        path: of the file.
        content: what :class:`brats3d.training.KeepCheckpoints` saved.
        settings: of the run, data included.
    """

    path: Path
    content: dict[str, Any]
    settings: dict[str, Any]


def find_run(output_dir: Path, resume: str = "auto") -> SavedRun | None:
    """The newest whole state in a run's folder; None where no run has left one.

    Args:
        output_dir: of the run.
        resume: one of :data:`RESUME`.

    Raises:
        ValueError: if ``resume`` is none of them, if it is ``never`` and there is a run, or if all states are damaged.
    """
    if resume not in RESUME:
        raise ValueError(f"resume: expected one of {', '.join(RESUME)}, got {resume!r}")
    files = [file for name in (LAST, PREVIOUS) if (file := output_dir / "checkpoints" / name).is_file()]
    if files and resume == "never":
        raise ValueError(f"{output_dir} holds a run, and resume is 'never'; name another --output_dir, or remove it")
    problems = []
    for file in files:
        try:
            content = read_content(file)
        except (ValueError, OSError) as error:
            problems.append(error)
            continue
        for problem in problems:
            logger.warning("%s; going back to %s", problem, file)
        text = content.get("settings")
        settings = json.loads(text) if isinstance(text, str) else read_settings(output_dir / "settings.json")
        return SavedRun(file, content, settings)
    if problems:
        raise ValueError(f"{problems[0]}; name another --output_dir, or remove {output_dir}")
    return None


def with_data(settings: Mapping[str, Any], trainer: Trainer, evaluator: Evaluator) -> dict[str, Any]:
    """The settings, with the cases by name, their label conventions, a digest of each case's files, and what a command
    line or a config of the user's own may have put in the place of the loss, the optimizer and the transforms.
    """
    engines = (trainer, evaluator)
    items = [item for engine in engines for item in engine.data_loader.dataset.data]
    transforms = trainer.data_loader.dataset.transform
    return {
        **settings,
        "training_cases": [item["case_id"] for item in trainer.data_loader.dataset.data],
        "validation_cases": [item["case_id"] for item in evaluator.data_loader.dataset.data],
        "label_conventions": dict(sorted(Counter(str(item.get("label_convention")) for item in items).items())),
        "processes": idist.get_world_size(),
        "parts": {
            "loss": describe_part(trainer.loss_function),
            "optimizer": describe_part(trainer.optimizer),
            **{f"transform {i}": describe_part(t) for i, t in enumerate(transforms.transforms)},
        },
        "files": {item["case_id"]: _digest_files(item) for item in items},
    }


def refuse_changes(
    run: SavedRun, output_dir: Path, settings: Mapping[str, Any], free: frozenset[str], resume: str = "auto"
) -> None:
    """Compare a saved run's settings and data with those of now.

    Raises:
        ValueError: naming every difference; with ``resume`` of ``force`` that is a warning.
    """
    now = json.loads(json.dumps(dict(settings), default=str))
    earlier = run.settings
    names = [n for n in {**earlier, **now} if n not in free and earlier.get(n) != now.get(n)]
    names = [
        n for n in names if n in earlier or n not in ("files", "parts", "processes")
    ]  # of a run that did not keep them
    if names != ["parts"]:  # else what differs there follows from the others
        names = [n for n in names if n != "parts"]
    if not names:
        return
    differences = ", ".join(_difference(n, earlier.get(n), now.get(n)) for n in names)
    if resume == "force":
        logger.warning("%s goes on with other settings: %s", output_dir, differences)
        return
    raise ValueError(
        f"{output_dir} holds a run with other settings: {differences}; "
        "name another --output_dir, repeat the old settings, or go on all the same with --resume force"
    )


def keep_settings(trainer: Trainer, settings: Mapping[str, Any], output_dir: Path, write: bool) -> None:
    """Give the settings to what saves the trainer's state, and write them for people to ``settings.json``."""
    text = json.dumps(dict(settings), indent=2, default=str)
    trainer.state.settings = text
    if write:
        write_whole(output_dir / "settings.json", lambda file: file.write(text.encode()))


def _digest_files(item: Mapping[str, Any]) -> str:
    """Of a case's files, by sequence, wherever they lie: all of a label, and what tells two images apart."""
    case = item_to_case(item)
    files = {**case.images, **({"label": case.label} if case.label else {})}
    signatures = [(name, signature(Path(path), whole=name == "label")) for name, path in files.items()]
    return hashlib.sha256(repr(signatures).encode()).hexdigest()[:16]


def _difference(name: str, earlier: Any, now: Any) -> str:
    if name.endswith("_cases"):
        gone, new = (sorted(set(a or []) - set(b or [])) for a, b in ((earlier, now), (now, earlier)))
        return f"{name}: {len(gone)} gone {gone[:3]}, {len(new)} new {new[:3]}"
    if name == "files":
        changed = sorted(case_id for case_id in earlier.keys() & now.keys() if earlier[case_id] != now[case_id])
        if not changed:
            return "files of other cases"
        return f"the files of {len(changed)} cases have changed {changed[:3]}"
    if name == "parts":
        changed = [part for part in {**earlier, **now} if earlier.get(part) != now.get(part)]
        return ", ".join(f"{p} was {earlier.get(p, 'none')!s:.500}, is {now.get(p, 'none')!s:.500}" for p in changed)
    return f"{name} was {earlier!r:.200}, is {now!r:.200}"
