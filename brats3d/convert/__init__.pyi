from .conversion import check_output as check_output
from .conversion import convert_dataset as convert_dataset
