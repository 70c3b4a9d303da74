from .case_scores import score_case as score_case
from .challenge_rules import RULES as RULES, Rules as Rules
from .comparison import (
    compare_scores as compare_scores,
    format_comparison as format_comparison,
    save_comparison as save_comparison,
)
from .find_segmentation_files import find_segmentations as find_segmentations
from .folder_scores import FolderScores as FolderScores, score_folders as score_folders
from .lesions import box_with_margin as box_with_margin, score_lesions as score_lesions
from .probabilities import (
    PROBABILITIES as PROBABILITIES,
    BatchProbabilities as BatchProbabilities,
    SaveProbabilities as SaveProbabilities,
    read_probabilities as read_probabilities,
    write_probabilities as write_probabilities,
)
from .run import run_evaluation as run_evaluation
from .score_files import (
    Scores as Scores,
    read_scores as read_scores,
    write_csv as write_csv,
    write_scores as write_scores,
)
from .score_rows import ScoreRow as ScoreRow, group_by_case as group_by_case, mean_dice_by_case as mean_dice_by_case
from .summary import (
    MEASURES as MEASURES,
    RegionSummary as RegionSummary,
    Spread as Spread,
    format_table as format_table,
    summarise as summarise,
)
from .validation_handlers import SaveScores as SaveScores, SaveValidationSegmentations as SaveValidationSegmentations
from .validation_metric import ValidationScores as ValidationScores, is_better as is_better
