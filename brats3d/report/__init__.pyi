from .crossval_results import (
    CROSSVAL_NAME as CROSSVAL_NAME,
    EVALUATED_NAME as EVALUATED_NAME,
    read_results as read_results,
    write_crossval_settings as write_crossval_settings,
)
from .curves import read_curves as read_curves
from .make import make_report as make_report
from .scored_cases import find_files as find_files
