"""Cross-validation: train and evaluate every fold, combine the scores of all cases, and make an ensemble."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
