"""A training run: steps, checkpoints, resuming, stopping, TensorBoard, MLflow, distributed training.

``run_training`` starts, resumes or reports a run; ``RunState`` is the state that its handlers share.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
