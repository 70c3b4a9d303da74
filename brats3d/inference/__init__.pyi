from .case_loop import CaseLoader as CaseLoader, EachCase as EachCase
from .records import RECORDS_NAME as RECORDS_NAME, Predictions as Predictions
from .run import run_inference as run_inference
from .save_segmentations import SaveSegmentations as SaveSegmentations
from .statistics import describe_segmentation as describe_segmentation, describe_weights as describe_weights
from .step import EvalStep as EvalStep
from .stitching import CPU as CPU, Stitcher as Stitcher
