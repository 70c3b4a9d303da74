"""A training run: its steps, checkpoints, resume, stopping, TensorBoard, and several processes.

``run_training`` starts, resumes or reports a run; ``RunState`` is the record that its handlers share.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
