from .conversion import convert_dataset as convert_dataset
from .to_nnunet import NnunetDataset as NnunetDataset, convert_to_nnunet as convert_to_nnunet
