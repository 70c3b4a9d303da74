"""Other forms of BraTS 2020 (Kaggle's HDF5 slices, the Decathlon's Task01) converted to its NIfTI layout."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
