"""Segmenting a folder of cases: windows, writing, and what an earlier run has done already."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
