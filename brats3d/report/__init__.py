"""The report of a run: one self-contained HTML page, rendered from ``page.html.j2``; and the curves of a run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
