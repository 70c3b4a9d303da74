from __future__ import annotations

from pathlib import Path

import pytest

from brats3d.errors import DataError
from brats3d.quality import RegionQuality, read_quality, write_quality


def test_what_is_written_is_read(tmp_path: Path) -> None:
    regions = {region: RegionQuality(0.25, (1.5, 20)) for region in ("WT", "TC", "ET")}
    write_quality(tmp_path / "quality.json", {"a": regions})
    assert read_quality(tmp_path / "quality.json") == {"a": regions}


def test_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert read_quality(tmp_path / "quality.json") == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {}}', '{"a": {"WT": {"predicted_dice": "x"}}}', '{"a": 3}'])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "quality.json").write_text(text)
    with pytest.raises(DataError) as error:
        read_quality(tmp_path / "quality.json")
    assert error.value.subject.endswith("quality.json")
