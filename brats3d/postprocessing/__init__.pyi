from .choice import (
    CHOICE_NAME as CHOICE_NAME,
    COMPARED as COMPARED,
    MeanScores as MeanScores,
    PostprocessingChoice as PostprocessingChoice,
    read_choice as read_choice,
)
from .choose import choose_postprocessing as choose_postprocessing
from .chosen_values import chosen_postprocessing as chosen_postprocessing
from .out_of_fold_scores import OutOfFoldCase as OutOfFoldCase, read_out_of_fold as read_out_of_fold
from .region_rules import (
    ApplyRegionRulesd as ApplyRegionRulesd,
    RegionRules as RegionRules,
    apply_region_rules as apply_region_rules,
)
from .region_thresholds import ThresholdRegionsd as ThresholdRegionsd, check_thresholds as check_thresholds
from .values import PostprocessingValues as PostprocessingValues
