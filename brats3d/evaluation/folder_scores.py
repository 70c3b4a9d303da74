"""Score a folder of segmentations against a folder of references: ``brats3d score``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

from brats3d.cases import name_some
from brats3d.errors import DataError, UsageError
from brats3d.evaluation.case_pairing import describe_renamed, pair_cases
from brats3d.evaluation.challenge_rules import get_rules
from brats3d.evaluation.find_segmentation_files import find_segmentations
from brats3d.evaluation.label_readings import (
    better_readings,
    check_conventions,
    describe_labels,
    refuse_suspicious_labels,
)
from brats3d.evaluation.pair_scores import PairScores, score_pair
from brats3d.evaluation.score_files import write_csv, write_scores
from brats3d.evaluation.score_rows import ScoreRow
from brats3d.evaluation.summary import MEASURES, summarise
from brats3d.files import write_owned

logger = logging.getLogger("brats3d")

MISSING = ("list", "zero")


@dataclass(frozen=True)
class FolderScores:
    """The scores of a folder.

    Args:
        rows: one for each case and region, in natural order.
        missing: cases of the reference without a prediction.
        extra: predictions of cases without a reference, which are not scored.
        rules: name of the scoring rules.
        labels: a description of the label conventions that were used.
        counts_missing: True if the missing cases are in the rows and count as 0.
        notes: what the user should check, such as files that were paired although their names differ.
    """

    rows: tuple[ScoreRow, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    rules: str
    labels: str
    counts_missing: bool = False
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return _format_scores(self)

    @property
    def cases(self) -> int:
        """Number of cases in the means."""
        return len({row.case_id for row in self.rows})

    def write(self, path: str | Path) -> Path:
        """Write everything as JSON, and the rows as CSV with the same stem; return the CSV's path."""
        write_scores(
            path,
            self.rows,
            write_owned,
            rules=self.rules,
            labels=self.labels,
            missing_count_as_0=self.counts_missing,
            missing=list(self.missing),
            extra=list(self.extra),
            notes=list(self.notes),
        )
        return write_csv(Path(path).with_suffix(".csv"), self.rows)


def score_folders(
    pred_dir: str | Path,
    ref_dir: str | Path,
    convention: str | None = None,
    pred_labels: str | None = None,
    ref_labels: str | None = None,
    missing: str = "list",
    workers: int = 2,
    progress: bool = True,
) -> FolderScores:
    """Score every case that is in both folders.

    Args:
        pred_dir: folder with ``<case_id>.nii.gz`` or ``<case_id>_seg.nii.gz`` at any depth; other words around the
            identifier are described at :func:`brats3d.evaluation.case_pairing.pair_cases`.
        ref_dir: folder of the same form, or a data set in any layout of BraTS.
        convention: name in :data:`brats3d.evaluation.challenge_rules.RULES`; None uses BraTS 2023's rules, or those for
            meningiomas or metastases if all case identifiers say so.
        pred_labels: label convention of the predictions, a name in ``labels.CONVENTIONS``; None uses the one that
            brats3d has written into the file, else the convention of the reference.
        ref_labels: label convention of the reference; None uses the one in the file, else the one of the layout.
        missing: ``"list"`` skips cases without a prediction and lists them; ``"zero"`` counts them with Dice 0 and the
            HD95 of a missing region.
        workers: number of cases that are scored at the same time.
        progress: show a progress bar.

    Raises:
        UsageError: if an argument is outside its valid set, a folder does not exist, or nothing states the label
            convention of references.
        DataError: if a folder holds no segmentation or several of one case, if the folders have no case in common or it
            is unclear which files belong together, or if files cannot be used; it lists all of them.
    """
    from tqdm import tqdm

    if missing not in MISSING:
        raise UsageError("missing", expected=f"one of {', '.join(MISSING)}", found=missing)
    if convention is not None:
        get_rules(convention)
    preds = find_segmentations(pred_dir, "pred_dir")
    refs = find_segmentations(ref_dir, "ref_dir", with_cases=True)
    rules = get_rules(convention or _default_rules(list(refs)))
    pairs = pair_cases(list(preds), list(refs), pred_dir, ref_dir)
    absent = tuple(case_id for case_id in refs if case_id not in pairs)
    chosen = [*pairs, *(absent if missing == "zero" else ())]
    if ref_labels is None:
        check_conventions([refs[case_id] for case_id in chosen])

    def attempt(case_id: str) -> PairScores | str:
        try:
            return score_pair(preds.get(pairs.get(case_id, "")), refs[case_id], rules, pred_labels, ref_labels)
        except (ValueError, OSError) as error:
            return f"{case_id}: {error}"

    with ThreadPoolExecutor(workers) as pool:  # zlib, scipy and NumPy release the interpreter's lock
        hidden = None if progress else True
        results = list(tqdm(pool.map(attempt, chosen), desc="score", unit="case", total=len(chosen), disable=hidden))
    scored = {case_id: each for case_id, each in zip(chosen, results, strict=True) if isinstance(each, PairScores)}
    problems = [result for result in results if isinstance(result, str)]
    if problems:
        advice = "repair or remove these files; nothing was scored"
        raise DataError.of_many(f"{pred_dir} against {ref_dir}", problems, advice)
    read = list(scored.values())
    refuse_suspicious_labels(pred_dir, read)
    if warning := better_readings(read):
        logger.warning("%s", warning)
    notes = tuple(filter(None, (warning, describe_renamed(pairs), *_common_notes(scored))))
    rows = sorted((row for each in read for row in each.rows), key=lambda row: row.sort_key)
    extra = tuple(case_id for case_id in preds if case_id not in pairs.values())
    counts_missing = missing == "zero"
    return FolderScores(tuple(rows), absent, extra, rules.name, describe_labels(read), counts_missing, notes)


def _common_notes(scored: Mapping[str, PairScores]) -> Iterator[str]:
    """Yield each note of the cases once, with the cases it is about."""
    for note in dict.fromkeys(note for each in scored.values() for note in each.notes):
        yield f"{name_some([case_id for case_id, each in scored.items() if note in each.notes])}: {note}"


def _default_rules(case_ids: Sequence[str]) -> str:
    for part, rules in (("-MEN-", "brats2023-men"), ("-MET-", "brats2023-met")):
        if all(part in case_id.upper() for case_id in case_ids):
            return rules
    return "brats2023"


def _format_scores(scores: FolderScores) -> str:
    """Format mean, standard deviation, median and quartiles of each measure and region, and list missing cases."""
    skipped = 0 if scores.counts_missing else len(scores.missing)
    cases = f"{scores.cases} of {scores.cases + skipped} cases" if skipped else f"{scores.cases} cases"
    width = max(len(measure.title) for measure in MEASURES.values())
    lines = [
        f"{cases}, rules of {scores.rules}; labels: {scores.labels}",
        "",
        f"{'':<{width}}  region" + "".join(f"{head:>10}" for head in ("mean", "sd", "median", "q1", "q3")),
    ]
    summary = summarise(scores.rows)
    for name, measure in MEASURES.items():
        digits = 2 if name.endswith(("_mm", "_ml")) else 4
        title = measure.title
        for region, each in summary.items():
            if name in each.measures:
                values = astuple(each.measures[name])
                cells = "".join(f"{'-':>10}" if value is None else f"{value:>10.{digits}f}" for value in values)
                lines.append(f"{title:<{width}}  {region:<6}{cells}")
                title = ""
    if scores.missing:
        how = "NOT in these figures; --missing zero counts them as 0" if skipped else "counted as 0"
        lines += ["", f"without a prediction ({how}): {name_some(scores.missing, 20)}"]
    if scores.extra:
        lines += ["", f"without a reference (not scored): {name_some(scores.extra, 20)}"]
    lines += [line for note in scores.notes for line in ("", f"note: {note}")]
    return "\n".join(lines)
