"""Labels of any release to BraTS 2020's labels, to regions, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.data import MetaTensor
from monai.transforms import ConvertToMultiChannelBasedOnBratsClasses, LoadImage

from brats3d.data.label_transforms import (
    LabelsToRegionsd,
    RegionsToLabelsd,
    StandardLabelsd,
    labels_to_regions,
    regions_to_labels,
)
from brats3d.errors import DataError, UsageError
from brats3d.labels import BRATS2020, BRATS2023, CONVENTIONS, REGIONS

TC, WT, ET = (REGIONS.index(region) for region in ("TC", "WT", "ET"))
ALL = tuple(CONVENTIONS.values())
SHAPES = array_shapes(min_dims=3, max_dims=3, max_side=4)


@st.composite
def labelled(draw, conventions=ALL):
    """A convention and a label volume (1, H, W, D) in it."""
    convention = draw(st.sampled_from(conventions))
    values = draw(arrays(np.int16, draw(SHAPES), elements=st.sampled_from(sorted(convention.values))))
    return convention, torch.from_numpy(values)[None]


def line(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int16)[None, :, None, None]


@given(labelled())
def test_regions_are_unchanged_by_a_round_trip_through_labels(drawn):
    convention, label = drawn
    regions = labels_to_regions(label, convention)
    assert torch.equal(labels_to_regions(regions_to_labels(regions, convention), convention), regions)


@given(labelled([BRATS2020, BRATS2023]))
def test_labels_are_unchanged_by_a_round_trip_if_each_region_adds_one_label(drawn):
    convention, label = drawn
    back = regions_to_labels(labels_to_regions(label, convention), convention)
    assert back.dtype == torch.uint8
    assert torch.equal(back.to(label.dtype), label)


@given(labelled())
def test_regions_are_nested_and_zero_or_one(drawn):
    convention, label = drawn
    regions = labels_to_regions(label, convention)
    assert regions.dtype == torch.uint8
    assert (regions[ET] <= regions[TC]).all() and (regions[TC] <= regions[WT]).all() and (regions[WT] <= 1).all()
    cavity = [value for value, name in convention.labels.items() if name == "RC"]
    assert torch.equal(
        regions[WT].bool(), (label[0] > 0) & ~torch.isin(label[0], torch.tensor(cavity, dtype=label.dtype))
    )


@given(labelled(), st.integers(1, 3))
def test_flipping_commutes_with_conversion(drawn, axis):
    convention, label = drawn
    assert torch.equal(labels_to_regions(label.flip(axis), convention), labels_to_regions(label, convention).flip(axis))


@given(st.sampled_from(list(CONVENTIONS.values())), SHAPES.flatmap(lambda shape: arrays(np.bool_, (3, *shape))))
def test_any_three_masks_convert_to_labels_of_the_convention_and_enhancing_wins(convention, masks):
    label = regions_to_labels(torch.from_numpy(masks), convention)
    assert set(label.unique().tolist()) <= convention.values
    assert np.array_equal((label == convention.regions["ET"][0])[0], masks[ET])
    assert np.array_equal(label[0] > 0, masks.any(axis=0))


@pytest.mark.parametrize(("convention", "et"), [(BRATS2020, 4), (BRATS2023, 3)], ids=["2020", "2023"])
def test_channels_are_tc_wt_et(convention, et):
    regions = labels_to_regions(line(0, 1, 2, et), convention)[:, :, 0, 0].tolist()
    assert regions == [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]


def test_a_wrong_number_of_channels_is_refused():
    with pytest.raises(ValueError, match=r"label: expected one channel .* got shape \(2, 1, 1, 1\)"):
        labels_to_regions(torch.zeros(2, 1, 1, 1), BRATS2020)
    with pytest.raises(ValueError, match=r"regions: expected 3 channels .* got shape \(4, 1, 1, 1\)"):
        regions_to_labels(torch.zeros(4, 1, 1, 1), BRATS2020)


def test_monai_loses_the_enhancing_tumour_of_2023_and_brats3d_does_not():
    label = line(0, 1, 2, 3, 3)
    lost = ConvertToMultiChannelBasedOnBratsClasses()(label)
    assert lost[ET].sum() == 0  # MONAI issue 8112
    assert lost[TC].sum() == 1
    ours = labels_to_regions(label, BRATS2023)
    assert (ours[TC].sum(), ours[WT].sum(), ours[ET].sum()) == (3, 4, 2)


@pytest.mark.parametrize(
    ("convention", "values", "found"),
    [
        ("brats2020", [0, 1, 3, 3], "3 in 2 voxels"),
        ("brats2023", [0, 1, 4, 3], "4 in 1 voxels"),
        ("brats2020", [3, 4, 0, 0], "3 in 1 voxels"),
        ("brats2020", [0, 7, 7, 7], "7 in 3 voxels"),
    ],
    ids=str,
)
def test_labels_of_another_convention_are_refused_with_file_values_and_counts(
    tmp_path, write_nifti, convention, values, found
):
    path = write_nifti(tmp_path / "a_seg.nii.gz", np.array(values, np.int16).reshape(4, 1, 1))
    label = LoadImage(image_only=True, ensure_channel_first=True)(path)
    with pytest.raises(ValueError, match=f"{path}: .*{found}; expected {convention}'s labels"):
        StandardLabelsd("label")({"label": label, "label_convention": convention})


def test_labels_are_converted_to_2020_as_uint8_and_keep_their_geometry():
    affine = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    label = MetaTensor(line(0, 1, 2, 3).float(), affine=affine)
    checked = StandardLabelsd("label")({"label": label, "label_convention": "brats2023"})["label"]
    assert checked.dtype == torch.uint8
    assert checked.flatten().tolist() == [0, 1, 2, 4]
    assert torch.equal(checked.affine, affine)


@given(labelled())
def test_converted_labels_have_the_same_regions(drawn):
    convention, label = drawn
    standard = StandardLabelsd("label", convention.name)({"label": label})["label"]
    assert set(standard.unique().tolist()) <= {0, 1, 2, 4}
    assert torch.equal(labels_to_regions(standard, BRATS2020), labels_to_regions(label, convention))


def test_labels_slightly_off_after_scaling_are_rounded():
    label = torch.tensor([0, 0.9999998, 2.0000002, 3.9999998])[None, :, None, None]
    assert StandardLabelsd("label", "brats2020")({"label": label})["label"].flatten().tolist() == [0, 1, 2, 4]


def test_the_items_convention_takes_precedence_over_the_transforms():
    item = {"label": line(0, 1, 2, 3), "label_convention": "brats2023"}
    assert StandardLabelsd("label", "brats2024-ped")(item)["label"].flatten().tolist() == [0, 1, 2, 4]


def test_labels_of_an_unknown_convention_are_refused():
    with pytest.raises(UsageError) as error:
        StandardLabelsd("label")({"label": line(0, 1, 2)})
    assert error.value.subject == "label_convention"


def test_the_dictionary_transforms_are_inverse_and_keep_geometry_and_applied_operations():
    affine = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    label = MetaTensor(line(0, 1, 2, 4), affine=affine, applied_operations=[{"class": "Flip"}])
    data = {"label": label, "case_id": "a"}
    regions = LabelsToRegionsd("label", "brats2020")(data)
    back = RegionsToLabelsd("label", "brats2020")(regions)
    assert data["label"] is label and back["case_id"] == "a"
    assert regions["label"].shape == (3, 4, 1, 1)
    for out in (regions["label"], back["label"]):
        assert torch.equal(out.affine, affine) and out.applied_operations == label.applied_operations
    assert torch.equal(back["label"].as_tensor(), label.as_tensor().to(torch.uint8))


@pytest.mark.parametrize("convention", ["brats2020", "brats2024-gli", "hd-glio"])
def test_labels_outside_the_convention_are_not_converted_to_regions(convention):
    transform = LabelsToRegionsd("label", convention)
    known = sorted(transform.convention.values)
    assert transform({"label": line(*known)})["label"].shape == (3, len(known), 1, 1)
    for value in (7, -1):
        with pytest.raises(DataError) as error:
            transform({"label": line(*known, value)})
        assert error.value.subject == "label"
    with pytest.raises(DataError):
        transform({"label": torch.tensor([0, 1, 0.5])[None, :, None, None]})


def test_labels_slightly_off_are_rounded_before_they_become_regions():
    label = torch.tensor([0, 0.9999998, 3.9999998])[None, :, None, None]
    assert LabelsToRegionsd("label", "brats2020")({"label": label})["label"][ET].flatten().tolist() == [0, 0, 1]


@pytest.mark.parametrize("value", [0.01, 0.5, -3.0, 255.0, float("nan")])
def test_values_other_than_0_and_1_are_not_converted_to_labels(value):
    with pytest.raises(UsageError) as error:
        RegionsToLabelsd("pred", "brats2020")({"pred": torch.full((3, 2, 1, 1), value)})
    assert error.value.subject == "pred"


def test_plain_tensors_stay_plain_tensors():
    out = LabelsToRegionsd("label", "brats2020")({"label": line(0, 4)})["label"]
    assert type(out) is torch.Tensor


@pytest.mark.parametrize("transform", [StandardLabelsd, LabelsToRegionsd, RegionsToLabelsd])
def test_a_missing_key_is_skipped_only_if_allowed(transform):
    assert transform("label", "brats2020", allow_missing_keys=True)({"case_id": "a"}) == {"case_id": "a"}
    with pytest.raises(KeyError):
        transform("label", "brats2020")({"case_id": "a"})
