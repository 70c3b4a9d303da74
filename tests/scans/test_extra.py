"""Libraries of the extra: imported if installed, else one line that says what to install."""

from __future__ import annotations

import sys

import pytest

from brats3d.errors import UsageError
from brats3d.scans.extra import import_extra


def test_an_installed_library_is_imported() -> None:
    assert import_extra("pydicom.uid").ImplicitVRLittleEndian == "1.2.840.10008.1.2"


def test_a_missing_library_is_one_line_with_the_command_that_installs_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UsageError) as caught:
        import_extra("pydicom")
    assert caught.value.subject == "pydicom"
    assert 'pip install "brats3d[scans]"' in caught.value.advice
    assert "\n" not in str(caught.value)
