"""Sequences are told apart by the words of technicians, by image types and by times, as a radiologist reads them."""

from __future__ import annotations

import pytest

from brats3d.scans.dicom_headers import SeriesTags
from brats3d.scans.series_kind import is_original, kind_of_name, kind_of_series

DESCRIPTIONS = {
    "t1": [
        *(
            "AX T1",
            "T1 SAG SE",
            "t1_se_tra",
            "AXIAL T1 PRE",
            "AX T1 PRE GD",
            "T1 W/O CONTRAST",
            "Ax T1 FSE NON CONTRAST",
        ),
        *(
            "sT1W_3D_TFE",
            "t1_mprage_sag_p2_iso",
            "MPRAGE",
            "SAG 3D BRAVO",
            "Ax T1 FLAIR",
            "AXT1",
            "T1_SE_native",
            "T1 post-op",
        ),
        *("T1 C-", "T1 vor KM", "T1 o. KM", "T1 sin contraste", "T1 zonder contrast"),
        *("eT1W_SE", "t1_tse_dark-fluid_tra", "T1 3D TFE preop", "t1_vibe_fa15"),
    ],
    "t1ce": [
        *("AX T1 POST", "T1post", "T1 GD", "t1_se_tra_KM", "AX T1 +C", "T1 C+", "AX T1 FS +GAD", "T1 SE +", "3D T1 CE"),
        *(
            "T1CE",
            "T1c",
            "MPRAGE post Gd",
            "SAG T1 post contrast",
            "Ax T1 FLAIR +C",
            "t1_mpr_tra_gadovist",
            "T1W_3D_POSTGD",
        ),
        *(
            "BRAVO C+",
            "AX T1 POST-CONTRAST",
            "t1_tse_tra_mKM",
            "T1 con contraste",
            "T1 con mdc",
            "T1 avec inj",
            "AX T1 WITH",
        ),
    ],
    "t2": [
        "AX T2 TSE",
        "t2_tse_tra",
        "T2W_TSE",
        "Ax T2 PROPELLER",
        "AXT2",
        "t2_space_sag",
        "T2 FS",
        "PD_T2",
        "AX T2 FRFSE POST",
    ],
    "flair": [
        *("AX FLAIR", "t2_tirm_tra_dark-fluid", "T2 FLAIR", "AXFLAIR", "3D CUBE FLAIR", "FLAIR post", "AX T2 FLAIR +C"),
        *("t2_space_dark-fluid_sag_iso", "sFLAIR_SPIR", "t2_tirm_tra_dark", "t2_space_da-fl"),
    ],
}


@pytest.mark.parametrize(
    ("text", "modality"), [(text, modality) for modality, texts in DESCRIPTIONS.items() for text in texts]
)
def test_descriptions_of_the_four_sequences(text: str, modality: str) -> None:
    assert kind_of_series(SeriesTags(words=(text,))).modality == modality
    assert kind_of_name(f"0012_{text.replace('/', '')}_20200102.nii.gz").modality == modality


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("BraTS-GLI-00001-000-t2f.nii.gz", "flair"),
        ("sub-01_ses-02_ce-gadolinium_T1w.nii.gz", "t1ce"),
        ("t1.mha", "t1"),
        ("X_ADC.nii.gz", None),
        ("X_T1_sub.nii.gz", None),
        ("X_seg.nii.gz", None),
        ("FLAIR_mask.nii.gz", None),
        ("X_T1ce_tumor_seg.nii.gz", None),
        ("X_T1ce_masked.nii.gz", "t1ce"),
    ],
)
def test_names_of_image_files_are_read_as_those_of_brats_first(name: str, modality: str | None) -> None:
    assert kind_of_name(name).modality == modality


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3-plane loc", "localiser"),
        ("AAHead_Scout_MPR_sag", "localiser"),
        ("ep2d_diff_4scan_trace_p2_ADC", "diffusion"),
        ("Ax DWI b1000", "diffusion"),
        ("T1 perfusion", "perfusion"),
        ("rCBV map", "perfusion"),
        ("MIP T1 post", "projection"),
        ("T1 POST SUB", "subtraction"),
        ("T1 subtraction", "subtraction"),
        ("SUB T1", "subtraction"),
        ("GRE T2", "susceptibility"),
        ("AX T2* GRE", "susceptibility"),
        ("t2_fl2d_tra_hemo", "susceptibility"),
        ("SWI_Images", "susceptibility"),
        ("3D TOF MRA", "angiography"),
        ("bold_task", "functional imaging"),
        ("T1 map", "map or calibration"),
        ("SAG T1 C-SPINE", "another part of the body"),
        ("T2 STIR", "short-tau inversion recovery"),
        ("AX PD", "proton density"),
    ],
)
def test_other_series_are_skipped_with_the_reason(text: str, reason: str) -> None:
    kind = kind_of_series(SeriesTags(words=(text,)))
    assert (kind.modality, kind.reason) == (None, reason)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"modality": "CT", "object_kind": "CT Image Storage"}, "CT, not MR"),
        ({"modality": "SEG", "object_kind": "Segmentation Storage"}, "SEG, not MR"),
        ({"object_kind": "Secondary Capture Image Storage"}, "no MR image (Secondary Capture Image)"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "localiser"),
        ({"image_type": ("DERIVED", "SECONDARY", "PROJECTION IMAGE")}, "projection"),
        ({"image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")}, "diffusion"),
        ({"image_type": ("DERIVED", "SECONDARY", "SUBTRACTION")}, "subtraction"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "P", "ND")}, "map or calibration"),
    ],
)
def test_objects_and_image_types_that_are_no_sequence_are_skipped(tags: dict[str, object], reason: str) -> None:
    kind = kind_of_series(SeriesTags(words=("AX T1",), **tags))
    assert (kind.modality, kind.reason) == (None, reason)


@pytest.mark.parametrize(
    ("scanning", "echo_ms", "repetition_ms", "inversion_ms", "modality"),
    [
        (("SE",), 9, 600, None, "t1"),
        (("GR", "IR"), 2.6, 2300, 900, "t1"),  # MPRAGE
        (("GR",), 4.2, 9.8, None, "t1"),  # 3D TFE
        (("SE",), 100, 4500, None, "t2"),
        (("SE",), 390, 3200, 0, "t2"),  # SPACE
        (("SE", "IR"), 120, 9000, 2500, "flair"),
        (("SE", "IR"), 388, 5000, 1800, "flair"),  # 3D FLAIR
        (("SE",), 15, 3000, None, None),  # proton density
        (("GR",), 20, 700, None, None),  # T2*
        (("EP",), 90, 5000, None, None),
        (("SE", "IR"), 30, 4000, 160, None),  # STIR
        (("SE",), None, 600, None, None),
    ],
)
def test_times_decide_where_words_say_nothing(scanning, echo_ms, repetition_ms, inversion_ms, modality) -> None:
    tags = SeriesTags(
        words=("BRAIN",), scanning=scanning, echo_ms=echo_ms, repetition_ms=repetition_ms, inversion_ms=inversion_ms
    )
    kind = kind_of_series(tags)
    assert kind.modality == modality
    assert bool(kind.reason) == (modality is None)


@pytest.mark.parametrize(
    ("words", "agent", "modality"),
    [
        (("AX T1",), "Gadobutrol", "t1ce"),
        (("AX T1",), "", "t1"),
        (("AX T1",), "NO", "t1"),
        (("AX T1 PRE",), "Gadobutrol", "t1"),  # the tag is kept from the start of the study
        (("AX T1", "T1 SE +"), "", "t1ce"),  # the protocol says it
        (("AX T2",), "Gadobutrol", "t2"),
        (("AX T1", "BRAIN W/WO CONTRAST"), "Gadobutrol", "t1ce"),  # the protocol has both
        (("AX T1", "BRAIN W/WO CONTRAST"), "", "t1"),
    ],
)
def test_words_on_contrast_come_before_the_tag_of_the_agent(words, agent: str, modality: str) -> None:
    assert kind_of_series(SeriesTags(words=words, contrast=agent)).modality == modality


def test_the_description_comes_before_the_protocol() -> None:
    assert kind_of_series(SeriesTags(words=("AX T1 POST", "BRAIN PERFUSION"))).modality == "t1ce"
    assert kind_of_series(SeriesTags(words=("AX", "t2_tse_tra"))).modality == "t2"


def test_reformatted_series_are_not_original() -> None:
    assert is_original(SeriesTags(image_type=("ORIGINAL", "PRIMARY", "M")))
    assert not is_original(SeriesTags(image_type=("DERIVED", "SECONDARY", "MPR")))
