"""Label conventions, regions and modality names."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st

from brats3d.errors import UsageError
from brats3d.labels import (
    BRATS2020,
    BRATS2023,
    CONVENTIONS,
    HD_GLIO,
    MODALITIES,
    MODALITY_ALIASES,
    REGION_COLOURS,
    REGION_NAMES,
    REGIONS,
    REGIONS_TO_READ,
    LabelConvention,
    get_convention,
    order_modalities,
)


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_regions_are_nested_and_the_whole_tumour_is_every_label_but_the_resection_cavity(convention):
    regions = {name: set(values) for name, values in convention.regions.items()}
    tumour = {value for value, name in convention.labels.items() if name != "RC"}
    assert regions["ET"] <= regions["TC"] < regions["WT"] == tumour
    assert convention.values == {0, *convention.labels}


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        ("brats2020", {0: 0, 1: 1, 2: 2, 4: 4}),
        ("brats2023", {0: 0, 1: 1, 2: 2, 3: 4}),
        ("brats2024-gli", {0: 0, 1: 1, 2: 2, 3: 4, 4: 0}),  # the resection cavity is no tumour
        ("brats2024-ped", {0: 0, 1: 4, 2: 1, 3: 1, 4: 2}),
        ("brats2015", {0: 0, 1: 1, 2: 2, 3: 1, 4: 4}),
        ("decathlon", {0: 0, 1: 2, 2: 1, 3: 4}),
        ("hd-glio", {0: 0, 1: 2, 2: 4}),
    ],
)
def test_every_convention_translates_to_2020s(convention, expected):
    assert get_convention(convention).translate_to(BRATS2020) == expected


def test_a_convention_translates_to_itself_unchanged():
    assert all(c.translate_to(c) == {v: v for v in c.values} for c in CONVENTIONS.values())


@pytest.mark.parametrize("a", CONVENTIONS.values(), ids=CONVENTIONS)
@pytest.mark.parametrize("b", [c for c in CONVENTIONS.values() if c is not HD_GLIO], ids=lambda c: c.name)
def test_translation_keeps_every_region(a, b):
    for value, other in a.translate_to(b).items():
        assert [value in a.regions[r] for r in REGIONS] == [other in b.regions[r] for r in REGIONS]


def test_translation_to_hd_glio_keeps_the_whole_and_the_enhancing_tumour():
    assert HD_GLIO.own_values == {"WT": 1, "TC": 1, "ET": 2}
    assert BRATS2020.translate_to(HD_GLIO) == {0: 0, 1: 1, 2: 1, 4: 2}
    for a in CONVENTIONS.values():
        for value, other in a.translate_to(HD_GLIO).items():
            assert [value in a.regions[r] for r in ("WT", "ET")] == [other in HD_GLIO.regions[r] for r in ("WT", "ET")]


def test_the_enhancing_tumour_is_4_until_2021_and_3_since_2023():
    assert BRATS2020.regions == {"TC": (1, 4), "WT": (1, 2, 4), "ET": (4,)}
    assert BRATS2023.regions == {"TC": (1, 3), "WT": (1, 2, 3), "ET": (3,)}


def test_regions_are_in_monais_order_and_each_has_a_name_and_a_colour():
    assert REGIONS == ("TC", "WT", "ET")
    assert REGIONS_TO_READ == ("WT", "TC", "ET")
    assert set(REGION_NAMES) == set(REGION_COLOURS) == set(REGIONS)
    assert len(set(REGION_COLOURS.values())) == 3


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_convention_is_found_by_its_name(name):
    assert get_convention(name).name == name


def test_nnunet_is_another_name_for_the_decathlons_numbering():
    assert get_convention("nnunet") is CONVENTIONS["decathlon"]


def test_an_unknown_convention_is_refused_with_the_known_ones():
    with pytest.raises(UsageError) as caught:
        get_convention("brats1999")
    assert (caught.value.subject, caught.value.found) == ("label_convention", "brats1999")
    assert all(name in caught.value.expected for name in CONVENTIONS)


@given(st.lists(st.sampled_from(MODALITIES), min_size=1, unique=True), st.booleans())
def test_modalities_of_any_release_are_sorted_into_one_order(names, new_names):
    new = {old: alias for alias, old in MODALITY_ALIASES.items()}
    asked = [new[name].upper() if new_names else name for name in names]
    assert order_modalities(asked) == tuple(m for m in MODALITIES if m in names)


def test_a_single_string_is_refused():
    with pytest.raises(UsageError) as caught:
        order_modalities("flair")
    assert (caught.value.subject, caught.value.found) == ("modalities", "flair")
    assert "list" in caught.value.expected


@pytest.mark.parametrize("names", [[], ["t1", "t1"], ["t1", "t1n"], ["t1", "pet"]], ids=str)
def test_unknown_repeated_or_no_modalities_are_refused(names):
    with pytest.raises(UsageError) as caught:
        order_modalities(names)
    assert (caught.value.subject, caught.value.found) == ("modalities", names)


def test_importing_labels_imports_nothing_heavy():
    code = "import sys, brats3d.labels; sys.exit(bool({'torch', 'monai', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_conventions_survive_copying_and_pickling(convention: LabelConvention) -> None:
    assert copy.deepcopy(convention) is convention
    assert pickle.loads(pickle.dumps(convention)) is convention
