from .card_network import add_card_network as add_card_network
from .check_overlays import check_overlays as check_overlays, read_overlay as read_overlay
from .default_postprocessing import default_postprocessing as default_postprocessing
from .initialize import (
    check_command_line as check_command_line,
    check_config as check_config,
    explain_errors as explain_errors,
    prepare_run as prepare_run,
)
from .overrides import (
    MONAI_ARGUMENTS as MONAI_ARGUMENTS,
    REPLACED as REPLACED,
    misread_paths as misread_paths,
    unknown_ids as unknown_ids,
)
from .run import (
    build_workflow as build_workflow,
    command_line as command_line,
    repeat_command as repeat_command,
    run_workflow as run_workflow,
)
from .started_with import command_line_start as command_line_start
from .workflow_files import (
    WORKFLOWS as WORKFLOWS,
    config_files as config_files,
    find_bundle_root as find_bundle_root,
    find_configs as find_configs,
    installed_bundle as installed_bundle,
)
