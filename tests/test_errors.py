"""Errors have fields, and a message that is built from them."""

from __future__ import annotations

import pickle

import pytest

from brats3d.errors import MAX_LISTED, DataError, ExplainedError, NotFoundError, UsageError


def test_the_message_is_built_from_the_fields() -> None:
    error = UsageError("fold", expected="a number from 0 to 4", found=7, advice="choose another --fold")
    assert str(error) == "fold: expected a number from 0 to 4, got 7; choose another --fold"
    assert (error.subject, error.expected, error.found) == ("fold", "a number from 0 to 4", 7)


def test_missing_fields_are_not_in_the_message() -> None:
    assert str(DataError("a.nii.gz")) == "a.nii.gz"
    assert str(DataError("a.nii.gz", "is damaged")) == "a.nii.gz: is damaged"
    assert str(DataError("a.nii.gz", expected="3 axes")) == "a.nii.gz: expected 3 axes"
    assert str(DataError("a.nii.gz", found=None)) == "a.nii.gz: got None"


def test_a_long_value_is_shortened() -> None:
    assert len(str(UsageError("size", found="x" * 10_000))) < 100


@pytest.mark.parametrize(("kind", "code"), [(UsageError, 2), (NotFoundError, 2), (DataError, 1)])
def test_every_type_is_a_value_error_with_an_exit_code(kind: type[ExplainedError], code: int) -> None:
    error = kind("subject", "problem")
    assert isinstance(error, ValueError)
    assert error.exit_code == code


def test_a_missing_path_is_a_file_not_found_error_too() -> None:
    error = NotFoundError("dataset_dir", "there is no /data", advice="check the path")
    assert isinstance(error, FileNotFoundError)
    assert str(error) == "dataset_dir: there is no /data; check the path"


def test_a_single_problem_is_one_line() -> None:
    error = DataError.of_many("cases", ["a.nii.gz is missing"], "download it again")
    assert str(error) == "cases: a.nii.gz is missing; download it again"
    assert error.problems == ("a.nii.gz is missing",)


def test_many_problems_are_listed_up_to_a_limit() -> None:
    error = DataError.of_many("cases", [f"file {i}" for i in range(MAX_LISTED + 5)], "repair them")
    lines = str(error).splitlines()
    assert lines[0] == f"cases: {MAX_LISTED + 5} problems"
    assert lines[1] == "  file 0"
    assert lines[-2:] == ["  and 5 more", "What to do: repair them"]
    assert len(lines) == MAX_LISTED + 3
    assert len(error.problems) == MAX_LISTED + 5


@pytest.mark.parametrize("kind", [UsageError, NotFoundError, DataError])
def test_errors_can_be_pickled(kind: type[ExplainedError]) -> None:
    error = kind("fold", "problem", expected="0", found=7, advice="try again")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
