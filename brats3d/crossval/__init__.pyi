from .cross_validation import OUTPUT_DIR as OUTPUT_DIR, CrossValidation as CrossValidation
from .run import cross_validate as cross_validate
from .side_by_side import SideBySide as SideBySide, stop_with_parent as stop_with_parent
