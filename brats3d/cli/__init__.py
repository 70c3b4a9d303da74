"""The ``brats3d`` command: a thin front for the bundle and the package. It has no defaults of its own.

Heavy libraries are imported only when a subcommand runs, so that ``brats3d --help`` answers at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
