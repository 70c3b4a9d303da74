"""The table of finding kinds."""

from __future__ import annotations

from pathlib import Path

from brats3d.audit.finding_kinds import KINDS, make_finding
from brats3d.errors import DataError


def test_a_finding_does_not_repeat_the_path_of_its_file() -> None:
    finding = make_finding("different shape", "a", Path("/x/a_t1.nii"), "/x/a_t1.nii: has shape (1, 2, 3)")
    assert finding.problem == "has shape (1, 2, 3)"


def test_the_advice_of_an_error_is_replaced_by_that_of_the_kind() -> None:
    error = DataError("/x/a_t1.nii", "ends early", expected="3 voxels", advice="download it again")
    finding = make_finding("unreadable file", "a", Path("/x/a_t1.nii"), error)
    assert finding.problem == "ends early; expected 3 voxels"
    assert finding.advice == KINDS["unreadable file"].advice


def test_a_finding_has_a_repair_only_if_its_kind_and_itself_can_be_repaired() -> None:
    assert make_finding("duplicate files", "a", None, "x").repair == KINDS["duplicate files"].repair
    assert make_finding("duplicate files", "a", None, "x", repairable=False).repair == ""
    assert make_finding("missing sequence", "a", None, "x").repair == ""
