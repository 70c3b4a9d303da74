"""Find the cases to view: in the output folder of ``predict``, in the folder of a run, or in a folder of cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from brats3d.cases import Case, NoCasesError, natural_key, scan_cases
from brats3d.errors import DataError, NotFoundError
from brats3d.evaluation import find_segmentations
from brats3d.files import WrittenFiles, read_json
from brats3d.labels import BRATS2020, REGIONS_TO_READ, get_convention
from brats3d.report import CROSSVAL_NAME, find_files, read_results
from brats3d.view.viewed_case import LabelFile, ViewedCase

_OF_RUNS = ("metrics.json", "settings.json", CROSSVAL_NAME)
"""Files by which the folder of a run is recognised."""


def find_viewed_cases(
    folder: str | Path, dataset_dir: Sequence[str | Path] = (), label_convention: str | None = None
) -> list[ViewedCase]:
    """Find the cases to view. Images and segmentations are not opened.

    Args:
        folder: the output folder of ``brats3d predict``, whose images are those that ``predictions.jsonl`` records;
            the folder of a run or a cross-validation; or any folder of segmentations or cases.
        dataset_dir: where the images are, if they have moved or if nothing records them.
        label_convention: meaning of the labels of segmentations whose names do not state it.

    Returns:
        The cases by mean Dice, the lowest first; then those without a Dice.

    Raises:
        NotFoundError: if a folder does not exist.
        UsageError: if the label convention is unknown.
        DataError: if the folder has no case to look at, or a run no segmentations.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise NotFoundError("folder", f"there is no folder {root}", expected="the folder of a run, or segmentations")
    if any((root / name).is_file() for name in _OF_RUNS):
        cases = _of_a_run(root, dataset_dir)
    elif any(root.glob("predictions*.jsonl")):
        cases = _of_segmentations(root, _recorded_cases(root) if not dataset_dir else _cases_in(dataset_dir))
    elif dataset_dir:
        cases = _of_segmentations(root, _cases_in(dataset_dir))
    else:
        cases = [_of_a_case(case) for case in _scan(root).values()] or _of_segmentations(root, lambda _: None)
    if label_convention is not None:
        cases = [case.with_convention(get_convention(label_convention).name) for case in cases]
    return sorted(cases, key=_order)


def _order(case: ViewedCase) -> tuple[Any, ...]:
    mean = case.mean_dice
    return (mean is None, mean or 0, natural_key(case.case_id))


def _of_a_case(case: Case) -> ViewedCase:
    return ViewedCase(case.case_id, case.images, reference=_reference(case))


def _reference(case: Case) -> LabelFile | None:
    return None if case.label is None else LabelFile(case.label, case.convention, case.convention_assumed)


def _of_a_run(root: Path, dataset_dir: Sequence[str | Path]) -> list[ViewedCase]:
    """Return the scored cases of a run or a cross-validation, with true Dice."""
    run = read_results(root)
    files, problems = find_files(run, list(dataset_dir) or None)
    if not files:
        raise DataError.of_many(root, [problem.text for problem in problems])
    return [
        ViewedCase(
            case_id,
            each.case.images,
            LabelFile(each.segmentation, BRATS2020.name),
            _reference(each.case),
            {region: row.dice for region, row in run.by_case[case_id].items()},
        )
        for case_id, each in files.items()
    ]


def _of_segmentations(root: Path, case_of: Callable[[str], Case | None]) -> list[ViewedCase]:
    """Return the cases of an output folder of ``predict``, with the Dice that ``--stats`` predicted."""
    cases = []
    for case_id, each in find_segmentations(root).items():
        case = case_of(case_id)
        images, reference = (case.images, _reference(case)) if case else ({}, None)
        label = LabelFile(each.path, each.convention or BRATS2020.name, assumed=each.convention is None)
        dice = _predicted_dice(each.path.parent / f"{case_id}.json")
        cases.append(ViewedCase(case_id, images, label, reference, dice, is_predicted=bool(dice)))
    return cases


def _predicted_dice(path: Path) -> dict[str, float]:
    """Return region -> Dice from the JSON of ``predict --stats``; empty if it has none."""
    try:
        regions = read_json(path)["regions"]
        return {region: float(regions[region]["predicted_dice"]) for region in REGIONS_TO_READ}
    except (OSError, ValueError, KeyError, TypeError):  # not written, or changed by somebody
        return {}


def _cases_in(folders: Sequence[str | Path]) -> Callable[[str], Case | None]:
    cases = {case.case_id: case for case in scan_cases(list(folders), absent_sequences=True).cases}
    return cases.get


def _recorded_cases(root: Path) -> Callable[[str], Case | None]:
    """Return a function that finds a case in the folder that ``predictions.jsonl`` records for it."""
    record = WrittenFiles(root)
    scanned: dict[str, Mapping[str, Case]] = {}

    def find(case_id: str) -> Case | None:
        sources = [version.source.get("folder") for version in record.versions(f"{case_id}.nii.gz")]
        folder = next((each for each in reversed(sources) if isinstance(each, str)), None)
        if folder is None:
            return None
        if folder not in scanned:  # many cases may share a folder
            scanned[folder] = _scan(Path(folder))
        found = scanned[folder]
        # A folder that is searched on its own may give its only case another identifier.
        return found.get(case_id) or (next(iter(found.values())) if len(found) == 1 else None)

    return find


def _scan(folder: Path) -> dict[str, Case]:
    """Return the cases in a folder; none if it does not exist, cannot be read, or has none."""
    try:
        return {case.case_id: case for case in scan_cases(folder, absent_sequences=True).cases}
    except (NoCasesError, NotFoundError, OSError):
        return {}
