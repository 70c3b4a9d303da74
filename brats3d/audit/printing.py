"""The findings of an audit as text and as JSON."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from brats3d.audit.finding_kinds import KINDS, SEVERITIES, Finding
from brats3d.audit.whole_dataset import Audit
from brats3d.files import write_json, write_owned

SCHEMA = 2
"""Version of the JSON's structure."""


def format_audit(audit: Audit, everything: bool = False) -> list[str]:
    """Return the lines to print: the findings by kind, errors first, then the statistics.

    Args:
        audit: the result.
        everything: list every finding; else at most ten of each kind.
    """
    of_kind: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
    for finding in audit.findings:
        of_kind[finding.kind].append(finding)
    lines = []
    for severity in SEVERITIES:
        for kind, findings in of_kind.items():
            if findings and KINDS[kind].severity == severity:
                limit = len(findings) if everything else _MAX_LISTED
                lines += [*_kind_lines(kind, findings, audit.roots, limit), ""]
    text = "\n".join([*lines, *_statistics_lines(audit)])
    return text.encode(errors="backslashreplace").decode().split("\n")  # a file's name can be undecodable


def write_audit_json(audit: Audit, path: str | Path) -> None:
    """Write everything as JSON; the paths of files are relative to the folder that was audited."""
    content = {
        "schema": SCHEMA,
        **audit.settings,
        "ok": audit.ok,
        "findings": [{**asdict(each), "file": _relative(each.file, audit.roots)} for each in audit.findings],
        "statistics": asdict(audit.statistics),
    }
    write_json(Path(path), content, write_owned)


_MAX_LISTED = 10


def _kind_lines(kind: str, findings: Sequence[Finding], roots: Sequence[Path], limit: int) -> list[str]:
    about = KINDS[kind]
    fix = "" if about.severity == "note" else "fix: "
    lines = [f"{about.severity:8}{kind}: {len(findings)}", f"        {fix}{about.advice}"]
    if repairable := sum(bool(finding.repair) for finding in findings):
        lines.append(f"        --repair {about.repair}: {repairable} of {len(findings)}")
    for finding in findings[:limit]:
        where = _relative(finding.file, roots) or finding.case_id
        lines.append(f"          {where}: {finding.problem}" if where else f"          {finding.problem}")
    if len(findings) > limit:
        lines.append(f"          … and {len(findings) - limit} more (--all lists them)")
    return lines


def _statistics_lines(audit: Audit) -> list[str]:
    statistics = audit.statistics
    severities = Counter(finding.severity for finding in audit.findings)
    rows = {
        "findings": ", ".join(f"{severities[each]} {each}{'s' * (severities[each] != 1)}" for each in SEVERITIES),
        "cases": f"{statistics.cases}, {statistics.cases_with_segmentation} with a segmentation",
        "patients": f"{statistics.patients}, {statistics.patients_with_several_cases} with several cases",
        "grades": _listed(statistics.grades),
        "layout": _listed(statistics.layouts),
        "labels": _listed(statistics.label_conventions),
        "voxels": _listed(statistics.shapes),
        "spacing, mm": _listed(statistics.spacings_mm),
    }
    for region, volume in statistics.volume_ml.items():
        if volume:
            rows[f"{region}, ml"] = (
                f"median {volume.median:.1f}, quartiles {volume.lower_quartile:.1f} to "
                f"{volume.upper_quartile:.1f}, range {volume.min:.2f} to {volume.max:.1f}, "
                f"in {volume.cases} of {statistics.cases_measured} cases"
            )
    rows["without ET"] = f"{statistics.et_free_cases} of {statistics.cases_measured} cases"
    return [f"{name:14}{text}" for name, text in rows.items() if text]


def _listed(counts: Mapping[str, int]) -> str:
    listed = [f"{name} ({n})" for name, n in list(counts.items())[:_MAX_LISTED]]
    more = [f"{len(counts) - _MAX_LISTED} more"] if len(counts) > _MAX_LISTED else []
    return ", ".join([*listed, *more])


def _relative(file: Path | None, roots: Sequence[Path]) -> str | None:
    if file is None or len(roots) > 1:
        return str(file) if file else None
    return os.path.relpath(file, roots[0])
