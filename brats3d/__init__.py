"""brats3d: brain tumour segmentation on BraTS, as a MONAI bundle and what MONAI lacks for it."""

__version__ = "0.1.0"
