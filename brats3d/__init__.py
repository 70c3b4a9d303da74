"""Brain tumour segmentation on BraTS: a MONAI bundle, and the Python code that it needs beyond MONAI.

Most people need two calls::

    import brats3d

    brats3d.predict("cases", "segmentations")
    print(brats3d.score("segmentations", "cases"))
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
