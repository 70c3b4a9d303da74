"""The bundle as a benchmark runs it: MONAI's workflow of a command's config files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brats3d.bundle import config_files, installed_bundle

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow


def workflow_of(command: str, **ids: Any) -> ConfigWorkflow:
    """Of "train" or "predict", with these values for some of its ids; it has yet to be initialised."""
    from monai.bundle import ConfigWorkflow  # here, since it takes seconds

    return ConfigWorkflow(
        config_file=[str(file) for file in config_files(command)],
        workflow_type="infer" if command == "predict" else "train",
        bundle_root=str(installed_bundle()),
        **ids,
    )
