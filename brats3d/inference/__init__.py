"""Segment a folder of cases: sliding windows, output files, and skipping the cases that an earlier run segmented."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
