"""Raw scans and DICOM: find and read the sequences of a patient as they leave the scanner, and bring results back."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
