from .conversion import check_output as check_output, convert_dataset as convert_dataset
