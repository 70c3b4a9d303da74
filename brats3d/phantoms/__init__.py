"""Synthetic cases: atlas, head, tumour, scan, and the endless stream that pretraining learns from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
