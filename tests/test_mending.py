"""Mending an image or a segmentation loses nothing and leaves nothing to mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brats3d.inspection import background_of, find_in_image
from brats3d.mending import mend_image, mend_label

HERE = Path("x_t1.nii.gz")


@given(
    hnp.arrays(np.int16, (6, 6, 5), elements=st.integers(-20, 200)),
    st.sampled_from(["int16", "int32", "float32", "float64"]),
    st.integers(-3000, 3000),
)
def test_a_mended_image_has_nothing_left_to_mend(values: np.ndarray, dtype: str, background: int) -> None:
    values[[0, 0, -1, -1], :, 0] = 0
    values[[0, 0, -1, -1], :, -1] = 0
    mended, changes = mend_image(values.astype(dtype) + np.dtype(dtype).type(background))
    assert not [each for each in find_in_image("a", HERE, mended) if each.repair]
    if background == 0 and (values >= 0).all():
        assert changes == ()
    again, more = mend_image(mended)
    assert more == ()
    assert np.array_equal(again, mended)


def test_a_background_that_leaves_no_room_in_the_dtype_widens_it() -> None:
    values = np.full((5, 5, 5), -20000, np.int16)
    values[2, 2, 2] = 20000
    mended, _ = mend_image(values)
    assert mended.dtype == np.int32
    assert mended.max() == 40000
    assert mended[0, 0, 0] == 0


@given(
    hnp.arrays(np.uint8, (5, 5, 4), elements=st.integers(0, 4)),
    hnp.arrays(np.int16, (5, 5, 4), elements=st.integers(0, 3)),
    st.floats(-9e-4, 9e-4),
)
def test_a_mended_segmentation_is_whole_and_inside_the_brain(label, image, off: float) -> None:
    image[[0, 0, -1, -1], :, 0] = 0
    image[[0, 0, -1, -1], :, -1] = 0
    mended, _ = mend_label(label + np.where(label, off, 0), [image])
    assert np.array_equal(mended, np.where(image == (background_of(image) or 0), 0, label))
