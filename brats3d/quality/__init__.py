"""Quality of a segmentation without a reference: predicted Dice, volume intervals, calibrated probabilities."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
