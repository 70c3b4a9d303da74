"""The default values of the post-processing, which stand in inference.yaml."""

from __future__ import annotations

from collections.abc import Mapping

from brats3d.bundle.workflow_files import config_files
from brats3d.postprocessing import PostprocessingValues, check_thresholds


def default_postprocessing(threshold: float | Mapping[str, float] | None = None) -> PostprocessingValues:
    """Return the values with which ``predict`` post-processes if none were chosen for the weights.

    Args:
        threshold: one for all regions, or one for each; None = that of inference.yaml.

    Raises:
        UsageError: if a threshold is not above 0 and below 1.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(config_files("predict"))
    parser["checkpoint"] = None
    threshold = parser.get_parsed_content("threshold") if threshold is None else threshold
    return PostprocessingValues(check_thresholds(threshold), parser.get_parsed_content("region_rules"))
