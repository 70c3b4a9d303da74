"""The files behind a run's scores: images, reference and segmentation of each scored case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brats3d.cases import Case, apply_convention, name_some, read_datalist, scan_cases
from brats3d.report.run_results import Run

Folders = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class CaseProblem:
    """Why a case is not shown, or why its pictures are doubtful.

    Args:
        case_id: the case; None if all cases are affected.
        text: the problem, and what to do about it.
    """

    case_id: str | None
    text: str


@dataclass(frozen=True)
class CaseFiles:
    """The files of a scored case.

    Args:
        case: its images and reference.
        segmentation: the prediction.
    """

    case: Case
    segmentation: Path


def find_files(
    run: Run, dataset_dir: Folders | None = None, evaluate: str = "brats3d evaluate"
) -> tuple[dict[str, CaseFiles], list[CaseProblem]]:
    """Find the files of the scored cases. No file is opened, so one damaged file cannot hide other cases.

    Args:
        run: the run that was scored.
        dataset_dir: where the cases are now; None uses the folder of the run's settings.
        evaluate: the command that writes the segmentations, for the advice.

    Returns:
        case_id -> files of the cases that have all of them, and the problems of the others.
    """
    if not any(path.parent.is_dir() for path in run.segmentations.values()):
        text = f"there are no segmentations in {run.folder}; to get pictures of the cases, run: {evaluate}"
        return {}, [CaseProblem(None, text)]
    where = dataset_dir or run.settings.get("dataset_dir")
    if not where:
        text = "the run's settings have no dataset_dir; pass --dataset-dir DIR to show the cases"
        return {}, [CaseProblem(None, text)]
    try:
        cases = _find_cases(run, where, moved=dataset_dir is not None)
    except (ValueError, OSError, TypeError) as error:  # TypeError: a wrong type in settings.json
        moved = "; pass --dataset-dir DIR if they have moved" if isinstance(error, OSError) and not dataset_dir else ""
        return {}, [CaseProblem(None, f"the cases cannot be shown: {error}{moved}")]
    files: dict[str, CaseFiles] = {}
    problems: list[CaseProblem] = []
    if absent := [case_id for case_id in run.by_case if case_id not in cases]:
        text = f"not in {where}: {name_some(absent)}; expected the scored cases"
        problems.append(CaseProblem(absent[0] if len(absent) == 1 else None, text))
    for case_id in run.by_case:
        if (case := cases.get(case_id)) is None:
            continue
        path = run.segmentations[case_id]
        lacking = [name for name in run.modalities if name not in case.images]
        lacking += ["the reference"] if case.label is None else []
        if lacking:
            problems.append(CaseProblem(case_id, f"lacks {', '.join(lacking)}; expected the scored files"))
        elif not path.is_file():
            problems.append(CaseProblem(case_id, f"has no segmentation {path}; run: {evaluate}"))
        else:
            files[case_id] = CaseFiles(case, path)
    return files, problems


def _find_cases(run: Run, where: Folders, moved: bool) -> dict[str, Case]:
    """Find every case of the data set. The label convention in the run's settings is applied as in the run."""
    folds = read_datalist(where, run.modalities, _find_datalist(run, where, moved))
    cases = scan_cases(where, run.modalities).cases if folds is None else [case for fold in folds for case in fold]
    cases, _ = apply_convention(cases, run.settings.get("label_convention") or None)
    return {case.case_id: case for case in cases}


def _find_datalist(run: Run, where: Folders, moved: bool) -> str | Path | None:
    """Return the run's datalist, which may have moved together with the data."""
    datalist = run.settings.get("datalist")
    if not datalist or not moved or Path(datalist).expanduser().is_file():
        return datalist
    beside = Path(where) / Path(datalist).name if isinstance(where, str | Path) else None
    return beside if beside is not None and beside.is_file() else None
