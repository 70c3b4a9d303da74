"""What an audit says: a table for people, JSON for programs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from brats3d.audit.dataset_audit import Audit
from brats3d.audit.findings import KINDS, SEVERITIES, Finding
from brats3d.files import write_whole

SCHEMA = 1
"""Version of the JSON's form."""


def audit_lines(audit: Audit, everything: bool = False) -> list[str]:
    """The findings kind by kind, errors first, then the figures; long lists are cut unless ``everything`` is asked."""
    of_kind = {kind: [finding for finding in audit.findings if finding.kind == kind] for kind in KINDS}
    lines = []
    for severity in SEVERITIES:
        for kind, found in of_kind.items():
            if found and KINDS[kind].severity == severity:
                lines += [*_kind_lines(kind, found, audit.roots, None if everything else _MAX_LISTED), ""]
    printable = "\n".join([*lines, *_figure_lines(audit)]).encode(errors="backslashreplace").decode()
    return printable.split("\n")


def write_audit(audit: Audit, path: str | Path) -> Path:
    """Write everything as JSON; files are named relative to the folder that was audited."""
    content = {
        "schema": SCHEMA,
        **audit.about,
        "ok": audit.ok,
        "findings": [{**asdict(each), "file": _relative(each.file, audit.roots)} for each in audit.findings],
        "figures": audit.figures,
    }
    return write_whole(path, lambda file: file.write(json.dumps(content, indent=1).encode() + b"\n"))


_MAX_LISTED = 10


def _kind_lines(kind: str, found: Sequence[Finding], roots: Sequence[Path], limit: int | None) -> list[str]:
    facts = KINDS[kind]
    mendable = sum(finding.repair is not None for finding in found)
    repair = f" (--repair {facts.repair}: {mendable} of {len(found)})" if mendable else ""
    lines = [f"{facts.severity:8}{kind}: {len(found)}", f"        to do: {facts.todo}{repair}"]
    for finding in found[:limit]:
        where = _relative(finding.file, roots) or finding.case_id
        lines.append(f"          {where}: {finding.what}" if where else f"          {finding.what}")
    if limit is not None and len(found) > limit:
        lines.append(f"          … and {len(found) - limit} more (--all lists them)")
    return lines


def _figure_lines(audit: Audit) -> list[str]:
    figures = audit.figures
    severities = Counter(finding.severity for finding in audit.findings)
    rows = {
        "findings": ", ".join(f"{severities[each]} {each}{'s' * (severities[each] != 1)}" for each in SEVERITIES),
        "cases": f"{figures['cases']}, {figures['cases_with_segmentation']} with a segmentation",
        "patients": f"{figures['patients']}, {figures['patients_with_several_cases']} with several cases",
        "grades": _listed(figures["grades"]),
        "layout": _listed(figures["layouts"]),
        "labels": _listed(figures["label_conventions"]),
        "voxels": _listed(figures["shapes"]),
        "spacing, mm": _listed(figures["spacings_mm"]),
    }
    for region, volume in figures["volume_ml"].items():
        if volume:
            rows[f"{region}, ml"] = (
                f"median {volume['median']:.1f}, quartiles {volume['lower_quartile']:.1f} to "
                f"{volume['upper_quartile']:.1f}, range {volume['min']:.2f} to {volume['max']:.1f}, "
                f"in {volume['cases']} of {figures['cases_measured']} cases"
            )
    rows["without ET"] = f"{figures['et_free_cases']} of {figures['cases_measured']} cases"
    return [f"{name:14}{text}" for name, text in rows.items() if text]


def _listed(counts: Mapping[str, int]) -> str:
    listed = [f"{name} ({n})" for name, n in list(counts.items())[:_MAX_LISTED]]
    return ", ".join([*listed, *([f"{len(counts) - _MAX_LISTED} more"] if len(counts) > _MAX_LISTED else [])])


def _relative(file: Path | None, roots: Sequence[Path]) -> str | None:
    if file is None:
        return None
    if len(roots) > 1:
        return str(file)
    return os.path.relpath(file, roots[0])
