"""Convert other forms of BraTS (Kaggle's HDF5 slices, the Decathlon's Task01) to BraTS 2020's NIfTI layout, and BraTS
cases to nnU-Net's raw form."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
