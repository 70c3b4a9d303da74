"""Settings of a training that fit the data and the machine, with the time that it will take."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
