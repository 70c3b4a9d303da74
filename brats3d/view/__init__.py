"""The viewer: a page on this computer, drawn by niivue, in which a person looks through segmentations."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
