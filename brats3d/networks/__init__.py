"""Everything about a network but its training: loss, normalisation, one pass over a brain, weights and their cards."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
