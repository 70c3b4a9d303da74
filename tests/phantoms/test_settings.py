"""The named settings, and the properties that every setting has."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from brats3d.errors import UsageError
from brats3d.phantoms.named_settings import DEFAULT_SETTING, SETTINGS, get_setting
from brats3d.phantoms.settings import Contrasts, Setting

OPTIONAL_STEPS = (
    *("fold_mm", "ventricle_mm", "gyri", "bitten", "leaves_skull", "more_foci", "small", "infiltrates", "edema_fade"),
    *("shell", "cystic", "bleeds", "tube_gain", "dura_gain", "plexus_gain", "cap_gain", "thick", "ghosts", "rician"),
    *("rings", "hindbrain_gain", "ventricle_skew", "ventricle_level", "flow_gain", "regional", "deep_gm"),
    *("core_variation", "uptake_variation", "min_core_ml", "folia", "axial", "diffuse"),
)
STEPS_OF_WIDE = (
    *("uneven_edema", "uneven_uptake", "partial", "rigid_rotation_deg"),
    *("class_spread", "random_contrast", "relaxation", "self_texture"),
    *("small_core", "satellites", "edema_shift", "thin_rim", "nodule"),
    *("least_contrast", "least_uptake", "fingers_mm", "coreless", "core_like"),
    *("swirl", "resected"),
)
"""The steps that only ``wide`` has."""

CHANCES = {f.name for f in fields(Setting) if f.type == "float"} - {"edema_in_white_matter_mm", "min_core_ml"}


def ranges_of(table: Setting | Contrasts) -> dict[str, tuple[float, float]]:
    return {f.name: v for f in fields(table) if isinstance(v := getattr(table, f.name), tuple)}


def test_the_documented_settings_exist():
    assert list(SETTINGS) == ["varied", "plain", "new-scanner", "wide"]
    assert DEFAULT_SETTING == "varied"


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_range_rises_and_every_chance_is_a_probability(setting):
    table = SETTINGS[setting]
    for name, (low, high) in {**ranges_of(table), **ranges_of(table.contrasts)}.items():
        assert low <= high, name
    for name in CHANCES:
        assert 0 <= getattr(table, name) <= 1, name
    assert table.lobes >= 1


def test_plain_has_none_of_the_optional_steps_and_varied_has_all():
    for name in OPTIONAL_STEPS:
        off, on = getattr(SETTINGS["plain"], name), getattr(SETTINGS["varied"], name)
        assert off in (0, False, (0, 0)), name
        assert on not in (0, False, (0, 0)), name
    for name in STEPS_OF_WIDE:
        assert [bool(getattr(SETTINGS[s], name) not in (0, False, (0, 0))) for s in SETTINGS] == [False] * 3 + [True]
    assert SETTINGS["plain"].lobes == 1
    assert SETTINGS["plain"].csf_weight == (1, 1)
    assert SETTINGS["plain"].soft_mm == (0.8, 0.8)
    assert SETTINGS["plain"].contrasts.t1ce_other == 0
    assert SETTINGS["varied"].contrasts.t1ce_other > 0
    assert (SETTINGS["varied"].contrasts.weak_uptake, SETTINGS["wide"].contrasts.weak_uptake > 0) == (0, True)


def test_contrasts_cannot_invert_a_sequence():
    """Distances between neighbouring healthy tissues are never negative, so their order is that of the sequence."""
    for table in SETTINGS.values():
        k = table.contrasts
        assert k.t1_csf[1] < k.t1_gm[0]
        for name in ("t1_wm", "t1ce_enhancing", "t2_gm", "t2_csf", "flair_csf"):
            assert getattr(k, name)[0] > 0, name
        assert k.flair_gm[0] >= 0


def test_a_setting_may_be_given_by_name_or_as_an_object():
    assert get_setting("plain") == Setting()
    own = replace(Setting(), low_grade=1)
    assert get_setting(own) is own


@pytest.mark.parametrize("unknown", ["plane", "", "Plain"])
def test_an_unknown_setting_is_refused(unknown):
    with pytest.raises(UsageError) as error:
        get_setting(unknown)
    assert (error.value.subject, error.value.found) == ("setting", unknown)
    assert error.value.expected == "one of varied, plain, new-scanner, wide"
