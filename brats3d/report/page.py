"""The page of a report, rendered from ``page.html.j2``: one file that loads nothing from the network.

Its Content-Security-Policy makes the browser enforce this, and allows no script but ``page.js``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from brats3d.evaluation import MEASURES, RegionSummary, summarise
from brats3d.labels import REGION_COLOURS, REGION_NAMES, REGIONS_TO_READ
from brats3d.quality import REVIEW_DICE
from brats3d.report.charts import Chart
from brats3d.report.failed_regions import POOR_DICE, FailedRegion
from brats3d.report.gallery import ShownCase
from brats3d.report.predicted_quality import ComparedCase, compare_quality, coverage, mean_error
from brats3d.report.run_results import Run
from brats3d.report.scored_cases import CaseProblem
from brats3d.report.slices import Picture

CASE_COLUMNS = {
    "dice": "Dice",
    "hd95_mm": "HD95, mm",
    "ref_volume_ml": "reference, ml",
    "pred_volume_ml": "predicted, ml",
}


@dataclass(frozen=True, eq=False)
class PageContent:
    """The content of ``page.html.j2``.

    Args:
        run: the run.
        facts: name -> value of what is known about the run.
        commands: the commands that repeat the run; none if unknown.
        failures: regions that failed.
        problems: files that are missing, damaged, or not the scored ones.
        shown: best, median and worst case.
        thumbnails: case_id -> picture.
        boxes: measure -> box plot.
        curves: name -> chart of the training.
        quality_charts: name -> chart of the predicted quality; empty if the weights predict none.
    """

    run: Run
    facts: Mapping[str, str]
    commands: Sequence[str]
    failures: Sequence[FailedRegion]
    problems: Sequence[CaseProblem]
    shown: Sequence[ShownCase]
    thumbnails: Mapping[str, Picture]
    boxes: Mapping[str, Chart]
    curves: Mapping[str, Chart]
    quality_charts: Mapping[str, Chart] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The page's title."""
        return f"Report of {self.run.folder.resolve().name}"

    @cached_property
    def summary(self) -> dict[str, RegionSummary]:
        """region -> its scores over all cases."""
        return summarise(self.run.rows)

    @property
    def fold_summaries(self) -> dict[str, dict[str, RegionSummary]]:
        """Fold -> region -> its scores over the cases of the fold; empty for a single run."""
        return {str(run.settings.get("fold", number)): summarise(run.rows) for number, run in enumerate(self.run.folds)}

    @property
    def case_columns(self) -> dict[str, str]:
        """Measure -> title, of the measures that every score row has."""
        return {
            name: title
            for name, title in CASE_COLUMNS.items()
            if all(row.value(name) is not None for row in self.run.rows)
        }

    @cached_property
    def compared(self) -> list[ComparedCase]:
        """The cases with a predicted quality, those to look at first before the others."""
        return compare_quality(self.run)

    @property
    def knobs(self) -> dict[str, Any]:
        """The settings without the long records that a training compares when it resumes."""
        records = ("config", "files", "training_cases", "validation_cases")
        return {name: value for name, value in self.run.settings.items() if name not in records}


def render_page(content: PageContent) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "data_uri": data_uri,
        "indented_json": lambda value: json.dumps(value, indent=1),
        "number": format_number,
        "mean_error": mean_error,
        "coverage": coverage,
    }
    script = (folder / "page.js").read_text(encoding="utf-8")
    environment.globals |= {
        "SCRIPT": Markup(script),
        "SCRIPT_HASH": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "STYLE": Markup((folder / "page.css").read_text(encoding="utf-8")),
        "MEASURES": MEASURES,
        "POOR_DICE": POOR_DICE,
        "REVIEW_DICE": REVIEW_DICE,
        "REGIONS": REGIONS_TO_READ,
        "REGION_COLOURS": dict(REGION_COLOURS),
        "REGION_NAMES": REGION_NAMES,
    }
    return environment.get_template("page.html.j2").render(content=content, run=content.run)


def data_uri(content: bytes, kind: str) -> str:
    """Return a file's content as a URI.

    Args:
        content: the file's bytes.
        kind: media type, such as ``image/png``.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def format_number(value: float | None, measure: str) -> str:
    """Return a value with the digits that suit its measure: 0.1 mm, 0.01 ml below 10 ml, four for a specificity."""
    if value is None:
        return "-"
    digits = 4 if measure == "specificity" else 3
    if measure.endswith("_ml"):
        digits = 1 if abs(value) >= 10 else 2
    elif measure.endswith("_mm"):
        digits = 1
    return f"{round(value, digits) + 0.0:.{digits}f}"  # adding 0 turns -0.0 into 0.0
