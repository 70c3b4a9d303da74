"""Read and write files: atomic writes, bounded reads, NIfTI, pictures, shards; and query free memory."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
