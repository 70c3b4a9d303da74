from .absent_sequences import DropSequencesd as DropSequencesd, subsets as subsets
from .dataset import (
    RESERVED_BYTES as RESERVED_BYTES,
    CaseDataset as CaseDataset,
    FillCache as FillCache,
    brain_box as brain_box,
)
from .label_transforms import (
    LabelsToRegionsd as LabelsToRegionsd,
    RegionsToLabelsd as RegionsToLabelsd,
    StandardLabelsd as StandardLabelsd,
    labels_to_regions as labels_to_regions,
    nest_regions as nest_regions,
    regions_to_labels as regions_to_labels,
)
from .loader import MORE_SHARED_MEMORY as MORE_SHARED_MEMORY, PrefetchLoader as PrefetchLoader
from .sampler import EpochCaseSampler as EpochCaseSampler, PlaceSampler as PlaceSampler
from .seeds import derive_seed as derive_seed
from .volume_reader import VolumeReader as VolumeReader
