"""Labels to regions and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.data import MetaTensor
from monai.transforms import ConvertToMultiChannelBasedOnBratsClasses, LoadImage

from brats3d.data.transforms import (
    LabelsToRegionsd,
    RegionsToLabelsd,
    StandardLabelsd,
    fill_absent,
    labels_to_regions,
    regions_to_labels,
)
from brats3d.labels import BRATS2020, BRATS2023, CONVENTIONS, MODALITIES, REGIONS

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
def test_labels_to_regions_to_labels_keeps_the_regions(drawn):
    convention, label = drawn
    regions = labels_to_regions(label, convention)
    assert torch.equal(labels_to_regions(regions_to_labels(regions, convention), convention), regions)


@given(labelled([BRATS2020, BRATS2023]))
def test_labels_to_regions_to_labels_is_the_identity_where_each_region_adds_one_label(drawn):
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
def test_any_three_masks_give_labels_of_the_convention_and_enhancing_stays_enhancing(convention, masks):
    label = regions_to_labels(torch.from_numpy(masks), convention)
    assert set(label.unique().tolist()) <= convention.values
    assert np.array_equal((label == convention.regions["ET"][0])[0], masks[ET])
    assert np.array_equal(label[0] > 0, masks.any(axis=0))


@pytest.mark.parametrize(("convention", "et"), [(BRATS2020, 4), (BRATS2023, 3)], ids=["2020", "2023"])
def test_channels_are_tc_wt_et(convention, et):
    regions = labels_to_regions(line(0, 1, 2, et), convention)[:, :, 0, 0].tolist()
    assert regions == [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]


def test_more_or_fewer_channels_are_refused():
    with pytest.raises(ValueError, match=r"label: expected one channel .* got shape \(2, 1, 1, 1\)"):
        labels_to_regions(torch.zeros(2, 1, 1, 1), BRATS2020)
    with pytest.raises(ValueError, match=r"regions: expected 3 channels .* got shape \(4, 1, 1, 1\)"):
        regions_to_labels(torch.zeros(4, 1, 1, 1), BRATS2020)


def test_monai_loses_the_enhancing_tumour_of_2023_and_ours_does_not():
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


def test_labels_that_belong_become_2020s_as_uint8_with_their_geometry():
    affine = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    label = MetaTensor(line(0, 1, 2, 3).float(), affine=affine)
    checked = StandardLabelsd("label")({"label": label, "label_convention": "brats2023"})["label"]
    assert checked.dtype == torch.uint8
    assert checked.flatten().tolist() == [0, 1, 2, 4]
    assert torch.equal(checked.affine, affine)


@given(labelled())
def test_standard_labels_have_the_regions_that_the_original_had(drawn):
    convention, label = drawn
    standard = StandardLabelsd("label", convention.name)({"label": label})["label"]
    assert set(standard.unique().tolist()) <= {0, 1, 2, 4}
    assert torch.equal(labels_to_regions(standard, BRATS2020), labels_to_regions(label, convention))


def test_labels_that_a_scaled_header_leaves_a_little_off_are_rounded():
    label = torch.tensor([0, 0.9999998, 2.0000002, 3.9999998])[None, :, None, None]
    assert StandardLabelsd("label", "brats2020")({"label": label})["label"].flatten().tolist() == [0, 1, 2, 4]


def test_the_items_own_convention_goes_before_the_transforms():
    item = {"label": line(0, 1, 2, 3), "label_convention": "brats2023"}
    assert StandardLabelsd("label", "brats2024-ped")(item)["label"].flatten().tolist() == [0, 1, 2, 4]


def test_labels_whose_meaning_nobody_states_are_refused():
    with pytest.raises(ValueError, match=r"what its labels mean is not stated; .*; pass --label_convention"):
        StandardLabelsd("label")({"label": line(0, 1, 2)})


def test_the_dictionary_forms_undo_each_other_and_keep_the_geometry_and_the_history():
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


def test_plain_tensors_stay_plain():
    out = LabelsToRegionsd("label", "brats2020")({"label": line(0, 4)})["label"]
    assert type(out) is torch.Tensor


@pytest.mark.parametrize("transform", [StandardLabelsd, LabelsToRegionsd, RegionsToLabelsd])
def test_a_missing_key_is_passed_by_only_where_allowed(transform):
    assert transform("label", "brats2020", allow_missing_keys=True)({"case_id": "a"}) == {"case_id": "a"}
    with pytest.raises(KeyError):
        transform("label", "brats2020")({"case_id": "a"})


# --- absent sequences


@pytest.mark.parametrize(
    "present", [("flair",), ("t1ce", "t2"), ("flair", "t1"), ("t1", "t1ce", "t2", "flair")], ids=str
)
def test_absent_sequences_are_zeros_and_the_others_stand_at_their_place(present):
    image = torch.randn(len(present), 2, 3, 4)
    filled = fill_absent(image, present, MODALITIES)
    assert filled.shape == (4, 2, 3, 4)
    for channel, modality in zip(filled, MODALITIES, strict=True):
        expected = image[present.index(modality)] if modality in present else torch.zeros(2, 3, 4)
        assert torch.equal(channel, expected)


def test_a_filled_image_keeps_its_geometry_and_its_history():
    affine = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.ones(1, 2, 2, 2), affine=affine, applied_operations=[{"class": "Flip"}])
    filled = fill_absent(image, ["t2"], ["t1", "t2"])
    assert torch.equal(filled.affine, affine) and filled.applied_operations == image.applied_operations
    assert type(fill_absent(torch.ones(1, 2, 2, 2), ["t2"], ["t1", "t2"])) is torch.Tensor


@pytest.mark.parametrize(("channels", "present"), [(2, ("t1",)), (2, ("t1", "t1")), (1, ("adc",)), (1, ("t1", "t2"))])
def test_names_that_are_not_those_of_the_channels_are_refused(channels, present):
    with pytest.raises(ValueError, match="image: expected a channel for each of"):
        fill_absent(torch.zeros(channels, 2, 2, 2), present, MODALITIES)
