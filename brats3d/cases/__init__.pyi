from .case import (
    Case as Case,
    check_case_id as check_case_id,
    check_folder as check_folder,
    check_path_syntax as check_path_syntax,
    find_cases as find_cases,
    name_some as name_some,
    natural_key as natural_key,
    scan_cases as scan_cases,
    with_convention as with_convention,
)
from .checks import (
    check_headers as check_headers,
    check_labels as check_labels,
    grid_difference as grid_difference,
    header_problems as header_problems,
    header_warnings as header_warnings,
    spacing_warning as spacing_warning,
    usual_grid as usual_grid,
    whole_labels as whole_labels,
)
from .datalist import (
    DATALIST_NAME as DATALIST_NAME,
    read_datalist as read_datalist,
)
from .discovery import NoCaseError as NoCaseError, Problem as Problem, walk as walk
from .duplicates import identical_files as identical_files, signature as signature
from .items import case_to_item as case_to_item, explain_item as explain_item, item_to_case as item_to_case
from .label_voxels import LabelledVoxels as LabelledVoxels, labelled_voxels as labelled_voxels
from .layouts import (
    ANY_LAYOUT as ANY_LAYOUT,
    SEGMENTATION as SEGMENTATION,
    layout_of as layout_of,
    modality_of as modality_of,
    parse_file_name as parse_file_name,
)
from .load import load_cases as load_cases, load_fold as load_fold
from .patients import (
    NameMapping as NameMapping,
    read_name_mappings as read_name_mappings,
    unite_patients as unite_patients,
    unmapped_releases as unmapped_releases,
)
from .splitting import describe_split as describe_split, split_dataset as split_dataset
