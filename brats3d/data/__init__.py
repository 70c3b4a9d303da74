"""From files to batches: label transforms, the data set with its cache, the sampler and the loader."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
