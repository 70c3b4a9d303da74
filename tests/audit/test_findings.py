"""The table of what can be wrong."""

from __future__ import annotations

from pathlib import Path

from brats3d.audit.findings import KINDS, SEVERITIES, make_finding


def test_every_kind_has_a_severity_and_says_what_to_do() -> None:
    for name, kind in KINDS.items():
        assert kind.severity in SEVERITIES, name
        assert kind.todo, name


def test_the_file_stands_once_in_a_finding() -> None:
    finding = make_finding("shape", "a", Path("/x/a_t1.nii"), "/x/a_t1.nii: has shape (1, 2, 3)")
    assert finding.what == "has shape (1, 2, 3)"


def test_a_finding_that_cannot_be_mended_says_no_repair() -> None:
    assert make_finding("double", "a", None, "x").repair == KINDS["double"].repair
    assert make_finding("double", "a", None, "x", repairable=False).repair is None
    assert make_finding("missing", "a", None, "x").repair is None
