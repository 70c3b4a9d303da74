"""The audit of a data set: problems of its files, cases and patients, and a repaired copy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
