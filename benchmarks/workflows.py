"""MONAI's workflow of a command's config files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brats3d.bundle import config_files, installed_bundle

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow


def workflow_of(command: str, **ids: Any) -> ConfigWorkflow:
    """Build the workflow of "train" or "predict" with values for some of its ids, without initialising it."""
    from monai.bundle import ConfigWorkflow  # imported here, because it takes seconds

    return ConfigWorkflow(
        config_file=[str(file) for file in config_files(command)],
        workflow_type="infer" if command == "predict" else "train",
        bundle_root=str(installed_bundle()),
        **ids,
    )
