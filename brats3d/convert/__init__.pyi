from .conversion import convert_dataset as convert_dataset
