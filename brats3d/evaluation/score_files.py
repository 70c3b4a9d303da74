"""Files of scores: JSON with a summary and all rows, and the rows as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from brats3d.errors import DataError, NotFoundError
from brats3d.evaluation.score_rows import SCORES_ADVICE, ScoreRow, group_by_case
from brats3d.evaluation.summary import summarise
from brats3d.files import Writer, read_json, write_owned, write_whole
from brats3d.labels import REGIONS_TO_READ


@dataclass(frozen=True)
class Scores:
    """The content of a file of scores.

    Args:
        rows: one for each case and region, in natural order.
        rules: name of the scoring rules, if the file has it.
        epoch: epoch of the weights that were scored, if the file has it.
    """

    rows: tuple[ScoreRow, ...]
    rules: str | None = None
    epoch: int | None = None


def read_scores(path: str | Path) -> Scores:
    """Read the JSON that ``brats3d score`` or ``evaluate`` has written.

    Raises:
        NotFoundError: if there is no such file.
        DataError: if it cannot be read, or does not hold every region of every case exactly once with valid numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(path, "no such file", expected="the JSON that brats3d score or evaluate writes")
    try:
        content = read_json(path)
    except ValueError as error:
        raise DataError(path, f"cannot be read as JSON: {error}", advice=SCORES_ADVICE) from None
    found = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(found, list) or not found:
        raise DataError(path, "no scores", expected="a list at 'rows'", found=found, advice=SCORES_ADVICE)
    rows = [ScoreRow.from_json(row, path, number) for number, row in enumerate(found, start=1)]
    for case_id, regions in group_by_case(rows).items():
        if len(regions) < len(REGIONS_TO_READ):
            expected = f"one row each of {', '.join(REGIONS_TO_READ)}"
            raise DataError(path, f"case {case_id:.80}", expected=expected, found=list(regions), advice=SCORES_ADVICE)
    if len(rows) > len({(row.case_id, row.region) for row in rows}):
        raise DataError(path, "several rows for one case and region", advice=SCORES_ADVICE)
    rules, epoch = content.get("rules"), content.get("epoch")
    if not isinstance(rules, str | None):
        raise DataError(path, "rules", expected="a name", found=rules, advice=SCORES_ADVICE)
    ordered = tuple(sorted(rows, key=lambda row: row.sort_key))
    return Scores(ordered, rules, epoch if isinstance(epoch, int) else None)


def write_scores(path: str | Path, rows: Sequence[ScoreRow], write: Writer = write_whole, **more: Any) -> None:
    """Write ``{**more, summary, rows}`` atomically as JSON.

    Raises:
        ValueError: if a number is NaN or infinite.
    """
    summary = {region: asdict(each) for region, each in summarise(rows).items()}
    content = {**more, "summary": summary, "rows": [row.to_json() for row in rows]}
    text = json.dumps(content, indent=2, allow_nan=False)
    write(Path(path), lambda file: file.write(text.encode()))


def write_csv(path: str | Path, rows: Sequence[ScoreRow]) -> Path:
    """Write one line for each case and region atomically as CSV."""
    content = [row.to_json() for row in rows]
    columns = list(dict.fromkeys(name for row in content for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(content)
    return write_owned(path, lambda file: file.write(text.getvalue().encode(errors="surrogateescape")))
