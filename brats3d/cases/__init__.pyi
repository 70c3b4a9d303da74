from .case import (
    Case as Case,
    case_to_item as case_to_item,
    check_case_id as check_case_id,
    item_to_case as item_to_case,
    make_case as make_case,
)
from .case_files import Problem as Problem
from .case_folders import folder_case_id as folder_case_id
from .check_segmentations import check_segmentations as check_segmentations
from .datalist import DATALIST_NAME as DATALIST_NAME, read_datalist as read_datalist
from .duplicates import identical_files as identical_files, signature as signature
from .explain_failure import explain_item as explain_item
from .explain_no_cases import NoCasesError as NoCasesError
from .file_names import SEGMENTATION as SEGMENTATION, parse_file_name as parse_file_name
from .image_evidence import (
    BRAIN_ML as BRAIN_ML,
    MIN_HEAD_MM as MIN_HEAD_MM,
    Doubt as Doubt,
    ImageFacts as ImageFacts,
    background_of as background_of,
    image_doubts as image_doubts,
    measure_image as measure_image,
)
from .label_convention import (
    apply_convention as apply_convention,
    possible_conventions as possible_conventions,
    with_convention as with_convention,
)
from .label_evidence import describe_fits as describe_fits, label_doubts as label_doubts
from .label_summary import (
    LabelledVoxels as LabelledVoxels,
    LabelSummary as LabelSummary,
    labelled_voxels as labelled_voxels,
    summarise_labels as summarise_labels,
)
from .load import (
    load_cases as load_cases,
    load_fold as load_fold,
    load_folds as load_folds,
    require_sound_headers as require_sound_headers,
)
from .name_mapping import (
    NameMapping as NameMapping,
    read_name_mappings as read_name_mappings,
    unmapped_releases as unmapped_releases,
)
from .name_words import states_patient as states_patient
from .naming_rules import (
    ANY_LAYOUT as ANY_LAYOUT,
    ANY_LAYOUT_OF_2023 as ANY_LAYOUT_OF_2023,
    layout_of as layout_of,
    modality_of as modality_of,
    parse_path as parse_path,
)
from .nnunet import raw_convention_of as raw_convention_of, split_channel as split_channel
from .paths import check_folder as check_folder, check_path_syntax as check_path_syntax
from .patient_groups import (
    is_unknown as is_unknown,
    several_cases as several_cases,
    unite_patients as unite_patients,
    unknown_cases as unknown_cases,
)
from .patients_table import PATIENTS_COLUMNS as PATIENTS_COLUMNS, PATIENTS_NAME as PATIENTS_NAME
from .region_volumes import region_volumes_ml as region_volumes_ml, region_voxels as region_voxels
from .search import FoundCases as FoundCases, find_cases as find_cases, scan_cases as scan_cases
from .split import describe_split as describe_split, split_dataset as split_dataset
from .text import is_utf8 as is_utf8, name_some as name_some, natural_key as natural_key, readable_name as readable_name
from .valid_headers import (
    grid_difference as grid_difference,
    header_problems as header_problems,
    spacing_warning as spacing_warning,
    usual_grid as usual_grid,
)
from .valid_labels import (
    MIN_LABELLED_FRACTION as MIN_LABELLED_FRACTION,
    check_extent as check_extent,
    check_labels as check_labels,
    whole_labels as whole_labels,
)
