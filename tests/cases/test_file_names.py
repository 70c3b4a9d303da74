"""Names of image files, of BraTS and of other pipelines."""

from __future__ import annotations

import pytest

from brats3d.cases.file_names import (
    form_rank,
    parse_name,
    segmentation_rank,
    shows_other_than_tumour,
    without_processing,
)


@pytest.mark.parametrize(
    ("name", "case_id", "kind", "form"),
    [
        # tutorials of BrainLesion, BraTS-Toolkit, CaPTk, HD-GLIO, HD-BET
        ("fla", "", "flair", ""),
        ("fl", "", "flair", ""),
        ("t1c_normalized_bet", "", "t1ce", "normalized_bet"),
        ("X_fla_bet", "X", "flair", "bet"),
        ("X_t1c_normalized_skull", "X", "t1ce", "normalized_skull"),
        ("T1CE_to_SRI_brain", "", "t1ce", "to_sri_brain"),
        ("FL_to_SRI", "", "flair", "to_sri"),
        ("brainTumorMask_SRI", "", "seg", "sri"),
        ("CT1_r2s_bet_reg", "", "t1ce", "r2s_bet_reg"),
        ("ct1_skull_strip", "", "t1ce", "skull_strip"),
        ("brain_t1", "", "t1", "brain"),
        # UCSF-PDGM, UPENN-GBM, LUMIERE, TCGA, MU-Glioma-Post
        ("UCSF-PDGM-0004_T1c_bias", "UCSF-PDGM-0004", "t1ce", "bias"),
        ("UCSF-PDGM-0004_tumor_segmentation", "UCSF-PDGM-0004", "seg", ""),
        ("UPENN-GBM-00001_11_T1GD", "UPENN-GBM-00001_11", "t1ce", ""),
        ("UPENN-GBM-00001_11_automated_approx_segm", "UPENN-GBM-00001_11", "seg", ""),
        ("CT1", "", "t1ce", ""),
        ("TCGA-02-0006_1996.08.23_GlistrBoost_ManuallyCorrected", "TCGA-02-0006_1996.08.23", "seg", ""),
        ("P_3_Timepoint_1_brain_t1c", "P_3_Timepoint_1_brain", "t1ce", ""),
        ("P_3_Timepoint_1_tumorMask", "P_3_Timepoint_1", "seg", ""),
        # spellings
        ("X_T2_FLAIR", "X", "flair", ""),
        ("X_T2-FLAIR", "X", "flair", ""),
        ("X_T1_pre", "X", "t1", ""),
        ("X_T1wpost", "X", "t1ce", ""),
        ("X-T1_Gd", "X", "t1ce", ""),
        ("X_flair_space-SRI24_N4", "X", "flair", "space-sri24_n4"),
        ("X_T1+C", "X", "t1ce", ""),
        ("T1c+", "", "t1ce", ""),
        ("X_T1_enhanced", "X", "t1ce", ""),
        ("X_T1-weighted", "X", "t1", ""),
        ("X_T1-weighted_CE", "X", "t1ce", ""),
        ("X_t2_tirm_darkfluid", "X", "flair", ""),
        ("X_t1gd_LPS_rSRI_SSFinal", "X", "t1ce", "lps_rsri_ssfinal"),
        # BIDS: only subject and session identify a case
        ("sub-01_T1w", "sub-01", "t1", ""),
        ("sub-01_ses-2_ce-gadolinium_T1w", "sub-01_ses-2", "t1ce", ""),
        ("sub-01_acq-postgd_run-1_T1w", "sub-01", "t1ce", "acq-postgd_run-1"),
        ("sub-01_ses-2_space-MNI_desc-brain_FLAIR", "sub-01_ses-2", "flair", "space-mni_desc-brain"),
        ("sub-01_label-tumor_mask", "sub-01", "seg", ""),
        # sequences in identifiers
        ("FL_0001_t1", "FL_0001", "t1", ""),
        ("study_T1_0001_flair", "study_T1_0001", "flair", ""),
        ("P_T1_seg", "P_T1", "seg", ""),
    ],
)
@pytest.mark.parametrize("ending", [".nii.gz", ".MHA"])
def test_names_of_other_pipelines_are_understood(name, case_id, kind, form, ending):
    parsed = parse_name(name + ending)
    assert parsed is not None
    assert (parsed.case_id, parsed.kind, parsed.form) == (case_id, kind, form)


OTHER_IMAGES = """
P_t1_brain_mask P_T1_pred P_mask P_brainmask FL_0001 T1_0000 sub-01_desc-brain_mask sub-01_desc-aseg_dseg sub-01_T2star
P_T1map P_DWI P_ADC t1ce_pre start1 flat
"""


@pytest.mark.parametrize("name", OTHER_IMAGES.split())
def test_other_images_are_neither_a_sequence_nor_a_segmentation(name):
    assert parse_name(f"{name}.nii.gz") is None


def test_one_case_has_one_identifier_on_every_system():
    assert parse_name("Mu\u0308ller_t1.nii").case_id == parse_name("M\u00fcller_t1.nii").case_id == "M\u00fcller"
    assert parse_name(b"M\xfcller_t1.nii".decode(errors="surrogateescape")).case_id == "M\u00fcller"


def test_images_without_the_skull_come_first_then_the_least_processed():
    forms = ["normalized_skull", "raw", "n4_reg", "bias", "", "to_sri_brain", "bet"]
    assert sorted(forms, key=form_rank) == ["bet", "to_sri_brain", "", "bias", "n4_reg", "raw", "normalized_skull"]


def test_segmentations_made_by_hand_come_before_automatic_ones():
    words = ["automated_approx_segm", "segmentation", "tumor_seg", "glistrboost_manuallycorrected", "seg"]
    assert sorted(words, key=segmentation_rank) == words[::-1]


@pytest.mark.parametrize(
    ("name", "other"),
    [("_brain_seg", True), ("_wm_seg", True), ("_pred_seg", True), ("_brain_tumor_seg", False), ("_old_seg", False)],
)
def test_segmentations_of_other_parts_are_recognised(name, other):
    assert shows_other_than_tumour(f"{name}.nii.gz") is other


def test_words_for_processing_are_removed_from_an_identifier():
    assert without_processing("P_3_brain") == without_processing("P_3_to_SRI_bet") == "P_3"
    assert without_processing("brain") == "brain"
