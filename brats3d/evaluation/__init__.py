"""BraTS scores: Dice, HD95, lesion-wise scores, tables and files of them, and the comparison of two score files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
