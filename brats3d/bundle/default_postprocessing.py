"""The default values of the post-processing, which stand in inference.yaml."""

from __future__ import annotations

from brats3d.bundle.workflow_files import config_files
from brats3d.labels import REGIONS
from brats3d.postprocessing import PostprocessingValues


def default_postprocessing() -> PostprocessingValues:
    """Return the values with which ``predict`` post-processes if none were chosen for the weights."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(config_files("predict"))
    parser["checkpoint"] = None
    threshold = parser.get_parsed_content("threshold")
    return PostprocessingValues((threshold,) * len(REGIONS), parser.get_parsed_content("region_rules"))
