"""Brain tumour segmentation on BraTS: a MONAI bundle, and the Python code that it needs beyond MONAI.

Most people need two calls::

    import brats3d

    brats3d.predict("cases", "segmentations")
    print(brats3d.score("segmentations", "cases"))
"""

import getpass
import os

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _name_the_user() -> None:
    """Set ``LOGNAME`` if the user has no name, as in ``docker run -u 12345``: MONAI asks for it when it is imported."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # OSError since Python 3.13; ImportError before, on Windows
        os.environ["LOGNAME"] = str(os.getuid()) if hasattr(os, "getuid") else "user"


_name_the_user()
