"""Post-processing, from probabilities to regions: thresholds, rules, and the choice of their values."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
