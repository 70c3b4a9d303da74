"""The sections of a report as HTML: what was run, scores, curves, cases, failures. What files say is escaped."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from brats3d.evaluation import MEASURES, RegionSummary, summarise
from brats3d.labels import REGION_COLOURS, REGION_NAMES, REGIONS_TO_READ
from brats3d.report.case_volumes import Trouble
from brats3d.report.page import Cell, data_uri, description, figure, listing, swatch, table
from brats3d.report.run_folder import POOR_DICE, Failure, Run, find_failures, repeat_lines
from brats3d.training import source_version

Charts = Mapping[str, tuple[bytes, str]]
"""Name -> (SVG, what it shows)."""

_CASE_COLUMNS = (
    ("dice", "Dice"),
    ("hd95_mm", "HD95, mm"),
    ("ref_volume_ml", "reference, ml"),
    ("pred_volume_ml", "predicted, ml"),
)


def header(run: Run) -> str:
    """What stands above everything: whose scores, of how many cases, and the means."""
    summary = summarise(run.rows)
    tiles = ""
    for region in REGIONS_TO_READ:
        measures = summary[region].measures
        hd95 = f"<span>HD95 {measures['hd95_mm'].mean:.1f} mm</span>" if "hd95_mm" in measures else ""
        tiles += (
            f'<li style="border-top-color:{REGION_COLOURS[region]}"><span>{region} {REGION_NAMES[region]}</span>'
            f"<strong>{measures['dice'].mean:.3f}</strong><span>mean Dice</span>{hd95}</li>"
        )
    return (
        '<p class="warning"><strong>Research only. Not a medical device.</strong></p>'
        f"<p>{_cases(run, 'validation case')}, metrics.json of {run.scored_at:%d %B %Y, %H:%M} UTC.</p>"
        f'<ul class="tiles">{tiles}</ul>{listing(map(escape, run.remarks), "remark")}'
    )


def run_section(run: Run) -> str:
    """What was run, how to do it again, and what made this report."""
    settings, card = run.settings, run.card
    facts: dict[str, Any] = {
        "run": run.folder,
        "network": _network(card.get("network_def")),
        "weights": f"after epoch {run.epoch}" if run.epoch is not None else None,
        "sequences": ", ".join(run.modalities),
        "data": settings.get("dataset_dir"),
        "fold": settings.get("fold"),
        "training cases": _count(settings.get("training_cases")),
        "validation cases": len(run.by_case),
        "labels": _counts(settings.get("label_conventions")),
        "epochs": settings.get("epochs"),
        "patch, voxels": _listed(settings.get("patch_size")),
        "learning rate": settings.get("learning_rate"),
        "seed": settings.get("seed"),
        "device": card.get("device", settings.get("device")),
        "trained with": card.get("commit"),
        "report made by": source_version(),
        "report made with": _versions(),
    }
    known = {name: escape(str(value)) for name, value in facts.items() if value not in (None, "")}
    knobs = {name: value for name, value in settings.items() if not name.endswith("_cases")}
    every = f"<details><summary>Every setting</summary><pre>{escape(json.dumps(knobs, indent=1))}</pre></details>"
    lines = escape("\n".join(repeat_lines(run)))
    return f"{description(known)}<h3>To repeat it</h3><pre>{lines}</pre>{every if knobs else ''}"


def score_section(run: Run) -> str:
    """Every measure of every region over all cases."""
    summary = summarise(run.rows)
    head = ["region", "measure", "mean", "sd", "median", "quartiles"]
    rows: list[list[Cell]] = []
    for region in REGIONS_TO_READ:
        for name, spread in summary[region].measures.items():
            numbers: list[Cell] = [_number(value, name) for value in (spread.mean, spread.sd, spread.median)]
            quartiles = f"{_text(spread.q1, name)} to {_text(spread.q3, name)}"
            rows.append([f"{swatch(region)}{region}", MEASURES[name].title, *numbers, quartiles])
    caption = f"Over {_cases(run)}. sd: standard deviation."
    lines = [_presence(region, summary[region]) for region in REGIONS_TO_READ]
    rule = (
        "A region empty in reference and prediction has Dice 1 and HD95 0 mm; one empty in only one of them has Dice 0 "
        "and the HD95 of a missing region, 374 mm unless other rules were asked for."
    )
    return table(head, rows, caption, "grouped measures") + listing(lines) + f'<p class="quiet">{rule}</p>'


def case_table(run: Run, linked: Sequence[str]) -> str:
    """One line a case.

    Args:
        run: whose cases.
        linked: those that have a thumbnail below.
    """
    measures = [(key, name) for key, name in _CASE_COLUMNS if all(row.value(key) is not None for row in run.rows)]
    place = {case_id: i for i, case_id in enumerate(linked)}
    rows: list[list[Cell]] = []
    for case_id, of_region in run.by_case.items():
        name = escape(case_id)
        if case_id in place:
            name = f'<a href="#case-{place[case_id]}">{name}</a>'
        numbers = [_number(of_region[region].value(key), key) for key, _ in measures for region in REGIONS_TO_READ]
        rows.append([name, *numbers])
    groups = "".join(f'<th class="group" colspan="3" scope="colgroup">{name}</th>' for _, name in measures)
    head = ["case", *(f"{swatch(region)}{region}" for _ in measures for region in REGIONS_TO_READ)]
    caption = "Click a column's name to sort by it."
    return table(head, rows, caption, "cases sortable", group=f"<tr><td></td>{groups}</tr>")


def charts_section(charts: Charts, nothing: str) -> str:
    """Charts side by side; what to say where there are none."""
    drawn = "".join(figure(data_uri(svg, "image/svg+xml"), alt) for svg, alt in charts.values())
    return f'<div class="charts">{drawn}</div>' if drawn else f'<p class="quiet">{escape(nothing)}</p>'


def failure_section(run: Run, troubles: Sequence[Trouble]) -> str:
    """Regions that went wrong, and files that could not be used."""
    failures = find_failures(run.rows)
    cases = len({failure.case_id for failure in failures})
    rule = f"a Dice below {POOR_DICE:g}, or a region that only the reference or only the prediction has"
    if failures:
        head = ["case", "region", "what", "Dice", "reference, ml", "predicted, ml"]
        rows = [_failure_row(failure) for failure in failures]
        content = f"<p>{cases} of {_cases(run)} with {rule}.</p>{table(head, rows, 'Worst first.', 'cases')}"
    else:
        content = f"<p>None has {rule}.</p>"
    mine = [trouble for trouble in troubles if trouble.case_id is not None]
    if mine:
        lines = (f"<strong>{escape(str(trouble.case_id))}</strong>: {escape(trouble.text)}" for trouble in mine)
        content += f"<h3>Files that are missing, damaged or others than those scored</h3>{listing(lines, 'remark')}"
    return content


def _cases(run: Run, one: str = "case") -> str:
    """Their number in words."""
    return f"{len(run.by_case)} {one}{'s' * (len(run.by_case) != 1)}"


def _failure_row(failure: Failure) -> list[Cell]:
    said = {
        "missed": "missed: nothing predicted",
        "spurious": "spurious: nothing there",
        "poor": f"Dice below {POOR_DICE:g}",
    }
    return [
        escape(failure.case_id),
        f"{swatch(failure.region)}{failure.region}",
        said[failure.kind],
        _number(failure.dice, "dice"),
        _number(failure.ref_volume_ml, "ref_volume_ml"),
        _number(failure.pred_volume_ml, "pred_volume_ml"),
    ]


def _presence(region: str, summary: RegionSummary) -> str:
    absent = summary.cases - summary.present
    text = f"{region}: in the reference of {summary.present} of {summary.cases}"
    if summary.dice_present is not None:
        text += f", with a mean Dice of {summary.dice_present:.3f} there"
    if absent:
        text += f"; in the other {absent}, {summary.false_volume_ml:.2f} ml are predicted on average"
    return f"{text}."


def _number(value: float | None, measure: str) -> Cell:
    return (_text(value, measure), None if value is None else float(value))


def _text(value: float | None, measure: str) -> str:
    """Millimetres to a tenth, small volumes to a hundredth, shares to a thousandth; specificity is close to 1."""
    if value is None:
        return "-"
    digits = 4 if measure == "specificity" else 3
    if measure.endswith("_ml"):
        digits = 1 if abs(value) >= 10 else 2
    elif measure.endswith("_mm"):
        digits = 1
    return f"{round(value, digits) + 0.0:.{digits}f}"  # adding 0 makes -0.0 a 0.0


def _network(network: Any) -> str:
    if not isinstance(network, dict):
        return ""
    name = str(network.get("class", "")).rpartition(".")[2]
    channels = _listed(network.get("channels"))
    return f"{name} of {channels} channels" if name and channels else name


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _count(value: Any) -> str:
    return str(len(value)) if isinstance(value, list) else ""


def _counts(value: Any) -> str:
    return ", ".join(f"{name} ({n})" for name, n in value.items()) if isinstance(value, dict) else ""


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in ("torch", "monai", "nibabel", "nilearn"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
