from .averaging import Averaging as Averaging
from .case_loader import CaseLoader as CaseLoader
from .eval_step import CatchFailures as CatchFailures, EvalStep as EvalStep
from .quality_stats import QualityStats as QualityStats
from .run import run_inference as run_inference
from .save_segmentations import SaveSegmentations as SaveSegmentations
from .segmentation_stats import describe_segmentation as describe_segmentation, describe_weights as describe_weights
from .stitching import CPU as CPU, Stitcher as Stitcher
