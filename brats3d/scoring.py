"""Two folders of segmentations, paired by case and scored: what ``brats3d score`` does.

No mean is taken over silently fewer cases: cases that lack a prediction are named, or count as 0.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brats3d.cases import check_folder, natural_key, report_problems, scan_cases
from brats3d.checks import check_labels, grid_difference, whole_labels
from brats3d.files import write_whole
from brats3d.labels import REGIONS_TO_READ, get_convention
from brats3d.layouts import ANY_LAYOUT, SEGMENTATION, layout_of, parse_file_name
from brats3d.metrics import MEASURES, Rules, get_rules, score_case, summarise, write_scores
from brats3d.segmentations import marked_convention
from brats3d.transforms import labels_to_regions
from brats3d.volumes import read_header, read_volume

__all__ = [
    "Scored",
    "Segmentation",
    "find_segmentations",
    "format_scores",
    "score_folders",
    "write_csv",
]

MISSING = ("list", "zero")


@dataclass(frozen=True)
class Segmentation:
    """One case's segmentation on disk.

    Args:
        case_id: whose.
        path: a NIfTI file.
        convention: what its labels mean, where its name or its header says it.
    """

    case_id: str
    path: Path
    convention: str | None = None


@dataclass(frozen=True)
class Scored:
    """What came of two folders.

    Args:
        rows: as :func:`brats3d.metrics.score_case` returns them; those of a case without a prediction that counts as 0
            have ``"missing": True``.
        missing: cases of the reference without a prediction.
        extra: predictions of cases that the reference lacks; they are not scored.
        rules: name of the challenge whose rules were followed.
        counts_missing: whether the missing cases are in the rows, as 0.
    """

    rows: tuple[dict[str, Any], ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    rules: str
    counts_missing: bool = False

    @property
    def cases(self) -> int:
        """How many cases the means are over."""
        return len({row["case_id"] for row in self.rows})

    def write(self, path: str | Path) -> Path:
        """Write everything as JSON, and the rows as CSV beside it under the same name; returns the CSV's path."""
        more = {"convention": self.rules, "missing": list(self.missing), "extra": list(self.extra)}
        write_scores(path, self.rows, **more)
        return write_csv(Path(path).with_suffix(".csv"), self.rows)


def score_folders(
    pred_dir: str | Path,
    ref_dir: str | Path,
    convention: str = "brats2023",
    pred_labels: str | None = None,
    ref_labels: str | None = None,
    missing: str = "list",
    workers: int = 2,
    progress: bool = True,
) -> Scored:
    """Score every case that both folders hold.

    Args:
        pred_dir: with ``<case_id>.nii.gz`` or ``<case_id>_seg.nii.gz``, anywhere below.
        ref_dir: the same, or a data set in any layout of BraTS.
        convention: whose rules to follow, a name in :data:`brats3d.metrics.RULES`.
        pred_labels: what the predictions' labels mean, a name in ``labels.CONVENTIONS``; None takes what brats3d has
            written into the file, else the convention of the reference.
        ref_labels: what the reference's labels mean; None takes what the cases' names say.
        missing: ``"list"`` leaves cases without a prediction out and names them; ``"zero"`` counts them as Dice 0 and
            the distance of a missing region.
        workers: how many cases are scored at the same time.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: if a folder does not exist.
        ValueError: if an argument is outside its valid set, a folder holds no segmentation or two of one case, no case
            is in both; or with every file at once that cannot be used.
    """
    from tqdm import tqdm

    rules = get_rules(convention)
    if missing not in MISSING:
        raise ValueError(f"missing: expected one of {', '.join(MISSING)}, got {missing!r}")
    preds, refs = find_segmentations(pred_dir, "pred_dir"), find_segmentations(ref_dir, "ref_dir")
    both = [case_id for case_id in refs if case_id in preds]
    absent = tuple(case_id for case_id in refs if case_id not in preds)
    if not both and missing == "list":
        raise ValueError(
            f"{pred_dir}: none of its {len(preds)} case(s) ({_listed(list(preds))}) is in {ref_dir}, which has "
            f"{_listed(list(refs))}; expected files named by the same cases"
        )
    score = partial(_score_pair, rules=rules, pred_labels=pred_labels, ref_labels=ref_labels)
    chosen = both + list(absent if missing == "zero" else ())
    jobs = ((preds.get(case_id), refs[case_id]) for case_id in chosen)
    with ThreadPoolExecutor(workers) as pool:  # zlib, scipy and NumPy work outside the interpreter's lock
        results = list(
            tqdm(pool.map(_caught(score), jobs), desc="score", unit="case", total=len(chosen), disable=not progress)
        )
    if problems := [problem for _, problem in results if problem]:
        report_problems(f"{pred_dir} against {ref_dir}", problems, "mend or remove these files; nothing was scored")
    rows = tuple(row for found, _ in results for row in found)
    extra = tuple(case_id for case_id in preds if case_id not in refs)
    return Scored(tuple(sorted(rows, key=_by_case)), absent, extra, rules.name, missing == "zero")


def find_segmentations(folder: str | Path, name: str = "folder") -> dict[str, Segmentation]:
    """The segmentations in a folder, by case, in the natural order of their identifiers.

    A data set as it was downloaded is searched as :func:`brats3d.cases.find_cases` does. Elsewhere every NIfTI file
    below the folder that is not an image (``<case_id>_t1.nii.gz``) is one: ``<case_id>.nii.gz``,
    ``<case_id>_seg.nii.gz``, ``<case_id>-seg.nii.gz``, or ``<case_id>/seg.nii.gz``.

    Args:
        folder: to search.
        name: of the argument, for errors.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is none, holds no segmentation, or two of one case.
    """
    root = check_folder(folder, name)
    found: dict[str, list[Segmentation]] = {}
    for each in _of_data_set(root) or _of_files(root):
        found.setdefault(each.case_id, []).append(each)
    if not found:
        raise ValueError(
            f"{name}: {root} holds no segmentation; expected files like BraTS20_Training_001.nii.gz or "
            "BraTS20_Training_001_seg.nii.gz"
        )
    doubles = [
        f"{case_id}: {len(each)} files, {' and '.join(str(one.path.relative_to(root)) for one in each)}; expected one"
        for case_id, each in found.items()
        if len(each) > 1
    ]
    if doubles:
        report_problems(f"{name}: {root}", doubles, "keep one file a case")
    return {case_id: found[case_id][0] for case_id in sorted(found, key=natural_key)}


def format_scores(scored: Scored) -> str:
    """The table that people read: for each measure and region mean, deviation, median and quartiles; who is missing."""
    summary = summarise(scored.rows)
    left_out = () if scored.counts_missing else scored.missing
    over = f"{scored.cases} of {scored.cases + len(left_out)} cases" if left_out else f"{scored.cases} cases"
    lines = [f"{over}, rules of {scored.rules}", ""]
    width = max(map(len, _TITLES.values()))
    lines.append(f"{'':<{width}}  region" + "".join(f"{head:>10}" for head in ("mean", "sd", "median", "q1", "q3")))
    for measure in MEASURES:
        for region in REGIONS_TO_READ:
            spread = summary[region]["measures"].get(measure)
            if spread is None:
                continue
            title = _TITLES[measure] if region == REGIONS_TO_READ[0] else ""
            digits = 2 if measure.endswith(("_mm", "_ml")) else 4
            cells = (spread[key] for key in ("mean", "sd", "median", "q1", "q3"))
            values = "".join(f"{'-':>10}" if value is None else f"{value:>10.{digits}f}" for value in cells)
            lines.append(f"{title:<{width}}  {region:<6}{values}")
    if scored.missing:
        how = "NOT in these figures; --missing zero counts them as 0" if left_out else "counted as 0"
        lines += ["", f"without a prediction ({how}): {_listed(scored.missing, 20)}"]
    if scored.extra:
        lines += ["", f"without a reference (not scored): {_listed(scored.extra, 20)}"]
    return "\n".join(lines)


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as CSV, a line a case and region, whole or not at all."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return write_whole(path, lambda file: file.write(text.getvalue().encode()))


_TITLES = {
    "dice": "Dice",
    "hd95_mm": "HD95, mm",
    "lesion_dice": "Dice, lesion-wise",
    "lesion_hd95_mm": "HD95, lesion-wise, mm",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "volume_error_ml": "volume error, ml",
}


def _of_data_set(root: Path) -> list[Segmentation]:
    """Of cases whose images lie beside them; none where there are no cases."""
    try:
        scan = scan_cases(root, absent_sequences=True)
    except ValueError:
        return []
    cases = [case for case in scan.cases if case.label is not None and case.images]
    unclear = [p for p in scan.problems if p.kind == "case twice" or (p.kind == "double" and "for seg" in p.text)]
    if cases and unclear:
        report_problems(str(root), [f"{p.case_id}: {p.text}" for p in unclear], "keep one segmentation a case")
    return [Segmentation(case.case_id, case.label, case.convention) for case in cases if case.label]


def _of_files(root: Path) -> list[Segmentation]:
    found = []
    for path in sorted(root.rglob("*")):
        if not re.search(r"\.nii(\.gz)?$", path.name, re.IGNORECASE) or path.name.startswith(".") or path.is_dir():
            continue
        parsed = parse_file_name(path.name)
        if parsed and parsed[1] != SEGMENTATION:
            continue
        stem = re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
        case_id = (parsed[0] or path.parent.name) if parsed else stem
        layout = layout_of(case_id)
        found.append(Segmentation(case_id, path, None if layout is ANY_LAYOUT else layout.convention))
    return found


def _score_pair(
    pair: tuple[Segmentation | None, Segmentation], rules: Rules, pred_labels: str | None, ref_labels: str | None
) -> list[dict[str, Any]]:
    pred, ref = pair
    convention = ref_labels or marked_convention(ref.path) or ref.convention
    if convention is None:
        raise ValueError(f"{ref.path}: nothing says what its labels mean; pass --ref-labels, such as brats2020")
    there, header = _read_regions(ref.path, convention)
    if pred is None:
        return [_as_zero(row, rules) for row in score_case(there * 0, there, ref.case_id, header.spacing_mm, rules)]
    if difference := grid_difference(read_header(pred.path), header):
        raise ValueError(difference[1])
    found, _ = _read_regions(pred.path, pred_labels or marked_convention(pred.path) or convention)
    return score_case(found, there, ref.case_id, header.spacing_mm, rules)


def _read_regions(path: Path, convention: str) -> tuple[torch.Tensor, Any]:
    volume = read_volume(path)
    meaning = get_convention(convention)
    check_labels(volume.values, meaning, str(path))
    label = torch.from_numpy(np.ascontiguousarray(whole_labels(volume.values), dtype=np.int16))
    return labels_to_regions(label[None], meaning), volume.header


def _as_zero(row: dict[str, Any], rules: Rules) -> dict[str, Any]:
    worst = dict.fromkeys(("dice", "lesion_dice", "sensitivity"), 0.0)
    return {**row, **worst, **dict.fromkeys(("hd95_mm", "lesion_hd95_mm"), float(rules.missing_mm)), "missing": True}


def _caught(score: Callable[..., list[dict[str, Any]]]) -> Callable[..., tuple[list[dict[str, Any]], str | None]]:
    def attempt(pair: tuple[Segmentation | None, Segmentation]) -> tuple[list[dict[str, Any]], str | None]:
        try:
            return score(pair), None
        except ValueError as error:
            return [], f"{pair[1].case_id}: {error}"

    return attempt


def _by_case(row: Mapping[str, Any]) -> Any:
    return natural_key(row["case_id"]), REGIONS_TO_READ.index(row["region"])


def _listed(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
