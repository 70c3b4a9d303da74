"""Find the state of an earlier run in the output folder, and compare its settings and data with those of this run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.engines import Trainer

from brats3d.cases import item_to_case, signature
from brats3d.errors import DataError, UsageError
from brats3d.files import read_json, write_whole
from brats3d.networks import read_content
from brats3d.training.checkpoints import BEST, LAST, PREVIOUS, read_score
from brats3d.training.run_state import RunState

logger = logging.getLogger("brats3d")

RESUME = ("auto", "force", "never")
"""``auto`` resumes the run in the folder if its settings and data are the same; ``force`` always resumes it;
``never`` refuses a folder that holds a run."""


_FOLDER_ADVICE = "choose another --output_dir, or remove the folder"


def find_run(output_dir: Path, resume: str = "auto") -> tuple[Path, dict[str, Any]] | None:
    """Find the newest undamaged checkpoint in a run's folder.

    Args:
        output_dir: folder of the run.
        resume: one of :data:`RESUME`.

    Returns:
        The file and its content, as :class:`brats3d.training.KeepCheckpoints` saved it; None if the folder has no run.

    Raises:
        UsageError: if ``resume`` is unknown, or is ``never`` and the folder holds a run; or if the folder has the best
            weights of a run whose state was removed.
        DataError: if every checkpoint is damaged.
    """
    damages: list[Exception] = []
    for file in _find_states(output_dir, resume):
        try:
            content = read_content(file)
        except (ValueError, OSError) as error:
            damages.append(error)
            continue
        for damage in damages:
            logger.warning("%s; using %s instead", damage, file)
        return file, content
    if damages:
        raise DataError(output_dir, f"every checkpoint is damaged ({damages[0]})", advice=_FOLDER_ADVICE)
    return None


def find_record(output_dir: Path, resume: str = "auto") -> dict[str, Any] | None:
    """Find the settings of the run in a folder, for :func:`refuse_changes`; None if the folder has no run.

    They are read from ``settings.json``; only if that is missing or damaged, from the checkpoint, which may be large.

    Raises:
        UsageError, DataError: as :func:`find_run`.
    """
    if not _find_states(output_dir, resume):
        return None
    with suppress(OSError, ValueError, TypeError):
        return {"settings": json.dumps(dict(read_json(output_dir / "settings.json")))}
    saved = find_run(output_dir, resume)
    return saved and saved[1]


def _find_states(output_dir: Path, resume: str) -> list[Path]:
    """Return the checkpoints from which the run of a folder can be resumed, the newest first."""
    if resume not in RESUME:
        raise UsageError("resume", expected=f"one of {', '.join(RESUME)}", found=resume)
    files = [file for name in (LAST, PREVIOUS) if (file := output_dir / "checkpoints" / name).is_file()]
    if files and resume == "never":
        raise UsageError("output_dir", f"{output_dir} holds a run, and resume is 'never'", advice=_FOLDER_ADVICE)
    best = output_dir / "checkpoints" / BEST
    # Only a run that was killed in its first epoch can have best.pt alone; it starts again.
    if not files and best.is_file() and (resume == "never" or read_score(best)[1] != 1):
        advice = f"choose another --output_dir, or move {best} away"
        raise UsageError("output_dir", f"{output_dir} holds {BEST} of a run, but no {LAST} to resume", advice=advice)
    return files


def run_record(run: RunState, trainer: Trainer) -> dict[str, Any]:
    """Return the record of a run, which is saved and compared when the run is resumed.

    It has the knobs, what else the run was started with, the names of the cases, their label conventions, a digest of
    each case's files, the number of processes, and the other parts of the config that change what is learned.
    """
    training, validation = (_items(engine) for engine in (trainer, run.evaluator))
    items = [*training, *validation]
    return {
        **run.settings,
        "started_with": json.loads(run.started_with),
        "training_cases": [item["case_id"] for item in training],
        "validation_cases": [item["case_id"] for item in validation],
        "label_conventions": dict(sorted(Counter(str(item.get("label_convention")) for item in items).items())),
        "processes": idist.get_world_size(),
        "config": _compared_parts(run),
        "files": {item["case_id"]: _digest_files(item) for item in items},
    }


def refuse_changes(content: Mapping[str, Any], run: RunState, record: Mapping[str, Any], resume: str = "auto") -> None:
    """Refuse to resume a run with other settings or data.

    With ``force`` the differences are only logged, as a warning.

    Raises:
        UsageError: listing every difference; with ``resume`` of ``force`` it is a warning.
    """
    earlier, now = json.loads(content.get("settings", "{}")), json.loads(_as_json(record))
    differences = list(_differences(earlier, now, run.free_settings))
    if not differences:
        return
    listed = "; ".join(differences)
    if resume == "force":
        logger.warning("%s is resumed with other settings: %s", run.output_dir, listed)
        return
    error = UsageError(
        "output_dir",
        f"{run.output_dir} holds a run with other settings: {listed}",
        advice="choose another --output_dir, use the old settings, or add --resume force",
    )
    error.problems = tuple(differences)
    raise error


def save_record(run: RunState, record: Mapping[str, Any]) -> None:
    """Put the record into the run state, and write it to ``settings.json`` for people (first process only)."""
    run.record = _as_json(record)
    if idist.get_rank() == 0:
        write_whole(run.output_dir / "settings.json", lambda file: file.write(run.record.encode()))


def _as_json(record: Mapping[str, Any]) -> str:
    return json.dumps(dict(record), indent=2, default=str)


def _items(engine: Any) -> list[Mapping[str, Any]]:
    """Return the datalist items of an engine; none for phantoms, which are generated during the run."""
    return getattr(engine.data_loader.dataset, "data", [])


def _compared_parts(run: RunState) -> dict[str, Any]:
    """Return id -> part of the config, without the knobs and the network.

    Knobs are compared by value, and the network by its description in the checkpoint.
    """
    parts = json.loads(run.config)
    return {
        name.replace("::", "#"): part
        for name, part in parts.items()
        if name not in run.settings and name not in ("network", "network_def")
    }


def _digest_files(item: Mapping[str, Any]) -> str:
    """Return a digest of a case's files, independent of their folder: the whole label, and signatures of the images."""
    case = item_to_case(item)
    files = {**case.images, **({"label": case.label} if case.label else {})}
    signatures = [(name, signature(Path(path), whole=name == "label")) for name, path in files.items()]
    return hashlib.sha256(repr(signatures).encode()).hexdigest()[:16]


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any], free: Sequence[str]) -> Iterator[str]:
    for name in {**earlier, **now}:
        before, after = earlier.get(name), now.get(name)
        if name in (*free, "started_with") or before == after:
            continue
        if name.endswith("_cases"):
            gone, new = (sorted(set(a or []) - set(b or [])) for a, b in ((before, after), (after, before)))
            yield f"{name}: {len(gone)} removed {gone[:3]}, {len(new)} new {new[:3]}"
        elif name == "files" and before and after:
            changed = sorted(case_id for case_id in before.keys() & after.keys() if before[case_id] != after[case_id])
            if changed:
                yield f"the files of {len(changed)} cases have changed {changed[:3]}"
        elif name == "config":
            for id_, *values in _changed_ids(before, after):
                yield "{} was {!r:.200}, is {!r:.200}".format(id_ or name, *values)
        else:
            yield f"{name} was {before!r:.200}, is {after!r:.200}"


def _changed_ids(before: Any, after: Any, id_: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (id, earlier value, current value) of the innermost parts that differ between two configs."""
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after:
            yield id_, before, after
        return
    for key in {**before, **after}:
        yield from _changed_ids(before.get(key), after.get(key), f"{id_}#{key}".lstrip("#"))
