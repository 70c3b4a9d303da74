"""Cases of every BraTS release: found in a folder, checked, grouped by patient, split into folds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
