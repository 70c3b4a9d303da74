"""Cases and their identifiers."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from brats3d.cases.case import make_case
from brats3d.errors import DataError


def test_images_are_in_order_and_a_case_can_be_pickled():
    case = make_case("BraTS2021_00001", {"flair": Path("a"), "t1": Path("b")}, None)
    assert list(case.images) == ["t1", "flair"]
    assert case.patient_id == "BraTS-GLI-00001"
    assert pickle.loads(pickle.dumps(case)) == case


@pytest.mark.parametrize("case_id", ["", ".", "..", "a/b", "..\\b", "a\0b"])
def test_a_case_id_is_one_path_component(case_id):
    with pytest.raises(DataError) as error:
        make_case(case_id, {}, None)
    assert (error.value.subject, error.value.found) == ("case_id", case_id)
