"""Networks, apart from their training: loss, normalisation, one-pass inference, weights and their cards."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
