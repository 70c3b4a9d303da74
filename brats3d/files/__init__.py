"""Files on disk: written whole or not at all, read within bounds, NIfTI in and out; small general things beside."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
