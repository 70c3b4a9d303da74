"""The error at the end of a cross-validation."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats3d.crossval.failures import FailedFold, raise_failures
from brats3d.errors import DataError, UsageError


def test_a_cause_of_every_fold_is_stated_once_without_the_advice_to_repeat_a_wrong_command() -> None:
    with pytest.raises(UsageError) as error:
        raise_failures([FailedFold(fold, "checkpoint: wrong", is_usage=True) for fold in (0, 2)], Path("out"))
    assert str(error.value) == "out: folds 0, 2: checkpoint: wrong"


def test_other_causes_have_a_line_each() -> None:
    failures = [FailedFold(0, "a full disk", is_usage=False), FailedFold(1, "damaged", is_usage=False)]
    with pytest.raises(DataError) as error:
        raise_failures(failures, Path("out"))
    assert error.value.problems == ("fold 0: a full disk", "fold 1: damaged")
    assert error.value.advice == "run the same command again; finished folds are kept"
