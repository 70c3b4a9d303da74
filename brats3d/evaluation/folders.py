"""Two folders of segmentations, paired by case and scored: what ``brats3d score`` does.

No mean is taken over silently fewer cases: cases that lack a prediction are named, or count as 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brats3d.cases import (
    check_labels,
    grid_difference,
    layout_of,
    name_some,
    natural_key,
    whole_labels,
)
from brats3d.data import labels_to_regions
from brats3d.errors import DataError
from brats3d.evaluation.rules import Rules, get_rules
from brats3d.evaluation.scores import score_case
from brats3d.evaluation.segmentation_files import Segmentation, find_segmentations
from brats3d.evaluation.tables import MEASURES, summarise, write_scores
from brats3d.files import Header, marked_convention, ordinary_size, read_header, read_volume, write_whole
from brats3d.labels import CONVENTIONS, REGIONS_TO_READ, get_convention

MISSING = ("list", "zero")


@dataclass(frozen=True)
class Scored:
    """What came of two folders.

    Args:
        rows: as :func:`brats3d.evaluation.score_case` returns them; those of a case without a prediction that counts
            as 0 have ``"missing": True``.
        missing: cases of the reference without a prediction.
        extra: predictions of cases that the reference lacks; they are not scored.
        rules: name of the challenge whose rules were followed.
        labels: what the labels of prediction and reference were taken to mean, in words.
        counts_missing: whether the missing cases are in the rows, as 0.
    """

    rows: tuple[dict[str, Any], ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    rules: str
    labels: str
    counts_missing: bool = False

    @property
    def cases(self) -> int:
        """How many cases the means are over."""
        return len({row["case_id"] for row in self.rows})

    def write(self, path: str | Path) -> Path:
        """Write everything as JSON, and the rows as CSV beside it under the same name; returns the CSV's path."""
        about = {"rules": self.rules, "labels": self.labels, "missing_count_as_0": self.counts_missing}
        write_scores(path, self.rows, **about, missing=list(self.missing), extra=list(self.extra))
        return write_csv(csv_beside(path), self.rows)


def score_folders(
    pred_dir: str | Path,
    ref_dir: str | Path,
    convention: str | None = None,
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
        convention: whose rules to follow, a name in :data:`brats3d.evaluation.RULES`; None: BraTS 2023's, those of its
            meningiomas or metastases where all cases are called so.
        pred_labels: what the predictions' labels mean, a name in ``labels.CONVENTIONS``; None takes what brats3d has
            written into the file, else the convention of the reference.
        ref_labels: what the reference's labels mean; None takes what brats3d has written, else what the names say.
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

    if missing not in MISSING:
        raise ValueError(f"missing: expected one of {', '.join(MISSING)}, got {missing!r}")
    if convention is not None:
        get_rules(convention)
    preds = find_segmentations(pred_dir, "pred_dir")
    refs = find_segmentations(ref_dir, "ref_dir", with_cases=True)
    rules = get_rules(convention or _rules_of(list(refs)))
    both = [case_id for case_id in refs if case_id in preds]
    absent = tuple(case_id for case_id in refs if case_id not in preds)
    if not both:
        raise ValueError(
            f"{pred_dir}: none of its {len(preds)} case(s) ({name_some(list(preds))}) is in {ref_dir}, which has "
            f"{name_some(list(refs))}; expected files named by the same cases"
        )
    attempt = partial(_attempt, rules=rules, pred_labels=pred_labels, ref_labels=ref_labels)
    chosen = both + list(absent if missing == "zero" else ())
    jobs = ((preds.get(case_id), refs[case_id]) for case_id in chosen)
    with ThreadPoolExecutor(workers) as pool:  # zlib, scipy and NumPy work outside the interpreter's lock
        found = list(
            tqdm(
                pool.map(attempt, jobs),
                desc="score",
                unit="case",
                total=len(chosen),
                disable=None if progress else True,
            )
        )
    problems = [each.problem for each in found if each.problem]
    if not problems and (doubt := _doubt_labels(found)):
        problems = [doubt]
    if problems:
        raise DataError.of_many(
            f"{pred_dir} against {ref_dir}", problems, "mend or remove these files; nothing was scored"
        )
    rows = sorted((row for each in found for row in each.rows), key=_by_case)
    extra = tuple(case_id for case_id in preds if case_id not in refs)
    return Scored(tuple(rows), absent, extra, rules.name, _say_labels(found), missing == "zero")


def format_scores(scored: Scored) -> str:
    """The table that people read: for each measure and region mean, deviation, median and quartiles; who is missing."""
    summary = summarise(scored.rows)
    left_out = () if scored.counts_missing else scored.missing
    over = f"{scored.cases} of {scored.cases + len(left_out)} cases" if left_out else f"{scored.cases} cases"
    lines = [f"{over}, rules of {scored.rules}; labels: {scored.labels}", ""]
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
        lines += ["", f"without a prediction ({how}): {name_some(scored.missing, 20)}"]
    if scored.extra:
        lines += ["", f"without a reference (not scored): {name_some(scored.extra, 20)}"]
    return "\n".join(lines)


def csv_beside(path: str | Path) -> Path:
    """Where the table goes that belongs to a JSON file of scores.

    Raises:
        ValueError: if something else is there.
    """
    file = Path(path).with_suffix(".csv")
    if file.exists():
        try:
            ordinary_size(file)
            with file.open("rb") as lines:
                ours = lines.read(len(_FIRST_COLUMNS)) == _FIRST_COLUMNS
        except (OSError, ValueError):
            ours = False
        if not ours:
            raise ValueError(f"output: {file} is there and is something else; give another file")
    return file


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as CSV, a line a case and region, whole or not at all."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return write_whole(path, lambda file: file.write(text.getvalue().encode(errors="surrogateescape")))


_FIRST_COLUMNS = b"case_id,region,dice"

_TITLES = {
    "dice": "Dice",
    "hd95_mm": "HD95, mm",
    "lesion_dice": "Dice, lesion-wise",
    "lesion_hd95_mm": "HD95, lesion-wise, mm",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "volume_error_ml": "volume error, ml",
}


@dataclass(frozen=True)
class _Attempt:
    """A case's rows, or what is wrong with it; what its labels were taken to mean, and which of them it holds."""

    rows: tuple[dict[str, Any], ...] = ()
    problem: str = ""
    pred_labels: str = ""
    ref_labels: str = ""
    assumed: bool = False
    values: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())


def _rules_of(case_ids: Sequence[str]) -> str:
    """BraTS 2023's, or those of meningiomas or metastases where every case is called so."""
    for part, rules in (("-MEN-", "brats2023-men"), ("-MET-", "brats2023-met")):
        if all(part in case_id.upper() for case_id in case_ids):
            return rules
    return "brats2023"


def _attempt(
    pair: tuple[Segmentation | None, Segmentation], rules: Rules, pred_labels: str | None, ref_labels: str | None
) -> _Attempt:
    pred, ref = pair
    try:
        meaning = ref_labels or _marked(ref.path) or ref.convention
        if meaning is None:
            names = " or ".join(layout_of(ref.case_id).conventions) or "such as brats2020"
            raise ValueError(f"{ref.path}: nothing says what its labels mean; pass --ref-labels, {names}")
        there, header, ref_values = _read_regions(ref.path, meaning, "--ref-labels")
        if pred is None:
            rows = score_case(there * 0, there, ref.case_id, header.spacing_mm, rules)
            return _Attempt(tuple(_as_zero(row, rules) for row in rows), ref_labels=meaning)
        if pred.path.samefile(ref.path):
            raise ValueError(f"{pred.path}: is the reference itself; expected a prediction; check the folders")
        if difference := grid_difference(read_header(pred.path), header):
            raise ValueError(difference[1])
        stated = pred_labels or _marked(pred.path)
        found, _, pred_values = _read_regions(pred.path, stated or meaning, "--pred-labels")
        rows = score_case(found, there, ref.case_id, header.spacing_mm, rules)
        return _Attempt(tuple(rows), "", stated or meaning, meaning, stated is None, (pred_values, ref_values))
    except (ValueError, OSError) as error:
        return _Attempt(problem=f"{ref.case_id}: {error}")


def _marked(path: Path) -> str | None:
    """What brats3d has written into a file of its own."""
    marked = marked_convention(path)
    if marked is not None and marked not in CONVENTIONS:
        raise ValueError(f"{path}: its header says labels of {marked!r}; expected one of {', '.join(CONVENTIONS)}")
    return marked


def _read_regions(path: Path, convention: str, option: str) -> tuple[torch.Tensor, Header, frozenset[int]]:
    volume = read_volume(path)
    meaning = get_convention(convention)
    try:
        check_labels(volume.values, meaning, str(path))
    except ValueError as error:
        raise ValueError(str(error).replace("--label_convention", option)) from None
    label = np.ascontiguousarray(whole_labels(volume.values), dtype=np.int16)
    held = frozenset(value for value in meaning.labels if (label == value).any())
    return labels_to_regions(torch.from_numpy(label)[None], meaning), volume.header, held


def _doubt_labels(found: Sequence[_Attempt]) -> str | None:
    """A 4 where the reference has 3 for what enhances: BraTS 2020's labels, read as a cavity or as edema."""
    assumed = [each for each in found if each.assumed]
    pred_values, ref_values = (frozenset().union(*(each.values[k] for each in assumed)) for k in (0, 1))
    if 4 in pred_values and 3 not in pred_values and 3 in ref_values:
        return (
            f"the predictions hold 4 and never 3, the reference ({assumed[0].ref_labels}) holds 3: predictions with "
            "the labels of BraTS 2020? Pass --pred-labels, brats2020 or the reference's"
        )
    return None


def _say_labels(found: Sequence[_Attempt]) -> str:
    preds = sorted({each.pred_labels + " (as the reference)" * each.assumed for each in found if each.pred_labels})
    refs = sorted({each.ref_labels for each in found if each.ref_labels})
    return f"predictions {', '.join(preds)}, reference {', '.join(refs)}"


def _as_zero(row: dict[str, Any], rules: Rules) -> dict[str, Any]:
    worst = dict.fromkeys(("dice", "lesion_dice", "sensitivity"), 0.0)
    return {**row, **worst, **dict.fromkeys(("hd95_mm", "lesion_hd95_mm"), float(rules.missing_mm)), "missing": True}


def _by_case(row: Mapping[str, Any]) -> Any:
    return natural_key(row["case_id"]), REGIONS_TO_READ.index(row["region"])
