"""The bundle: its folder, the config files of each workflow, overrides of their ids, and running a workflow.

MONAI and torch are imported only when a workflow runs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
