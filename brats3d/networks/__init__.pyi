from .checkpoint_card import (
    ENSEMBLE_NAME as ENSEMBLE_NAME,
    describe_network as describe_network,
    last_checkpoint_note as last_checkpoint_note,
    read_card as read_card,
    supports_absent_sequences as supports_absent_sequences,
)
from .checkpoint_file import (
    read_checkpoint as read_checkpoint,
    read_content as read_content,
    save_checkpoint as save_checkpoint,
    weights_digest as weights_digest,
)
from .deep_supervision import deep_loss as deep_loss, split_resolutions as split_resolutions
from .device_choice import default_device as default_device
from .ensemble import (
    checkpoint_members as checkpoint_members,
    single_checkpoint as single_checkpoint,
    write_ensemble as write_ensemble,
)
from .inferers import MAX_VOXELS as MAX_VOXELS, BrainInferer as BrainInferer
from .instance_norm import with_window_norms as with_window_norms
from .load_weights import (
    load_member as load_member,
    load_weights as load_weights,
    refuse_mismatch as refuse_mismatch,
)
from .loss import DiceBCELoss as DiceBCELoss
from .memory_estimate import step_need as step_need, stitched_bytes as stitched_bytes, window_need as window_need
from .network_config import is_network_config as is_network_config
from .onnx_file import check_onnx as check_onnx
from .precision import (
    SafeBackward as SafeBackward,
    autocast as autocast,
    check_flag as check_flag,
    compute_dtype as compute_dtype,
)
from .tissue_loss import TissueLoss as TissueLoss
from .weight_averaging import AverageWeights as AverageWeights, moving_average as moving_average
from .window_size import (
    BRAIN as BRAIN,
    check_window as check_window,
    compare_windows as compare_windows,
    size_multiple as size_multiple,
    trained_patch_size as trained_patch_size,
)
