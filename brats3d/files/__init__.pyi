from .atomic_write import (
    Writer as Writer,
    explain_full_disk as explain_full_disk,
    flush_file as flush_file,
    remove_leftovers as remove_leftovers,
    remove_temporary as remove_temporary,
    scratch_folder as scratch_folder,
    whole_folder as whole_folder,
    writable_folder as writable_folder,
    write_json as write_json,
    write_whole as write_whole,
)
from .bounded_read import (
    MAX_TEXT_BYTES as MAX_TEXT_BYTES,
    first_line as first_line,
    read_bounded as read_bounded,
    read_json as read_json,
    regular_file_size as regular_file_size,
    too_long as too_long,
)
from .failures import Failures as Failures, cause_of as cause_of, one_line as one_line
from .grids import (
    AFFINE_TOLERANCE_MM as AFFINE_TOLERANCE_MM,
    ORIGIN_TOLERANCE_MM as ORIGIN_TOLERANCE_MM,
    format_affine as format_affine,
    lps_axes as lps_axes,
    reorientation as reorientation,
    same_grid as same_grid,
    to_grid as to_grid,
    to_lps as to_lps,
)
from .image_names import (
    IMAGE_ENDINGS as IMAGE_ENDINGS,
    has_nifti_name as has_nifti_name,
    image_ending as image_ending,
    is_image_name as is_image_name,
    strip_image_ending as strip_image_ending,
)
from .links import link_or_copy as link_or_copy
from .memory import (
    free_gpu_memory as free_gpu_memory,
    free_memory as free_memory,
    free_shared_memory as free_shared_memory,
    gib as gib,
    total_memory as total_memory,
    use_huge_pages as use_huge_pages,
)
from .nifti_header import make_header as make_header
from .nifti_write import (
    marked_convention as marked_convention,
    nifti_image as nifti_image,
    write_nifti as write_nifti,
    write_segmentation as write_segmentation,
)
from .ownership import (
    PREDICTIONS_NAME as PREDICTIONS_NAME,
    ChangedFileError as ChangedFileError,
    WrittenFiles as WrittenFiles,
    check_replaceable as check_replaceable,
    write_owned as write_owned,
)
from .pictures import (
    MODALITY_TITLES as MODALITY_TITLES,
    best_slice as best_slice,
    overlay as overlay,
    save_preview as save_preview,
    to_rgb as to_rgb,
)
from .read_image import read_header as read_header, read_volume as read_volume
from .shards import read_shard as read_shard, shard_file_name as shard_file_name, take_shard as take_shard
from .volume import (
    MAX_BYTES as MAX_BYTES,
    MAX_VOXELS as MAX_VOXELS,
    Header as Header,
    Volume as Volume,
)
from .voxel_file import image_files as image_files, is_packed as is_packed, voxel_file as voxel_file
from .walk import (
    MAX_FOLDER_DEPTH as MAX_FOLDER_DEPTH,
    walk_folders as walk_folders,
)
