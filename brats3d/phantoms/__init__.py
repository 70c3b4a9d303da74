"""Synthetic cases: atlas, head, tumour and scan; data sets of them, and the endless stream for pretraining."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
