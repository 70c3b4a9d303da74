from .case_loader import CaseLoader as CaseLoader
from .case_stats import describe_segmentation as describe_segmentation, describe_weights as describe_weights
from .run import run_inference as run_inference
from .save_segmentations import SaveSegmentations as SaveSegmentations
from .step import CatchFailures as CatchFailures, EvalStep as EvalStep
from .stitching import CPU as CPU, Stitcher as Stitcher
