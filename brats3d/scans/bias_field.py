"""Remove the smooth bias field of the receive coils, before an image is registered or its brain mask is estimated.

Tustison et al., "N4ITK: Improved N3 Bias Correction", IEEE TMI 29 (2010), 1310-1320.
"""

from __future__ import annotations

from typing import Any

from brats3d.scans.itk_images import isotropic


def remove_bias_field(image: Any) -> Any:
    """Return a ``SimpleITK.Image`` of float32 divided by its bias field, which is estimated at a spacing of 6 mm.

    An image with values below 0, such as a normalised one, has no such field; its lowest value becomes 0 instead, since
    the search for a registration starts from centres of mass.
    """
    import SimpleITK as sitk

    if (lowest := float(sitk.GetArrayViewFromImage(image).min())) < 0:
        return image - lowest
    small = isotropic(image, _SPACING_MM)
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations(_ITERATIONS)
    correction.Execute(small, sitk.OtsuThreshold(small, 0, 1))
    field = sitk.Exp(sitk.Cast(correction.GetLogBiasFieldAsImage(image), sitk.sitkFloat32))
    return sitk.Cast(image / field, sitk.sitkFloat32)


_SPACING_MM = 6.0

_ITERATIONS = [20, 20, 20]  # of each level
