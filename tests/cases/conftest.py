"""A case on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats3d.cases.case import Case
from brats3d.cases.search import find_cases


@pytest.fixture
def case(tmp_path: Path, write_case) -> Case:
    """A sound case with images of (16, 16, 12) voxels."""
    write_case(tmp_path / "BraTS20_Training_001")
    return find_cases(tmp_path)[0]
