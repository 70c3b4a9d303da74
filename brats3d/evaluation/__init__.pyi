from .comparison import (
    compare_scores as compare_scores,
    format_comparison as format_comparison,
    read_scores as read_scores,
    save_comparison as save_comparison,
)
from .folders import (
    Scored as Scored,
    csv_beside as csv_beside,
    format_scores as format_scores,
    score_folders as score_folders,
)
from .lesions import box_with_margin as box_with_margin
from .run import run_evaluation as run_evaluation
from .save_segmentations import SaveEvaluated as SaveEvaluated
from .scores import score_case as score_case
from .tables import MEASURES as MEASURES, format_table as format_table, summarise as summarise
from .validation_metric import RegionScores as RegionScores, ReportScores as ReportScores, better as better
