from .crossval_results import EVALUATED_NAME as EVALUATED_NAME, write_crossval_settings as write_crossval_settings
from .curves import read_curves as read_curves
from .make import make_report as make_report
