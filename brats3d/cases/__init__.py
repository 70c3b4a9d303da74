"""Find the cases of every BraTS release, check them, group them by patient and split them into folds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
