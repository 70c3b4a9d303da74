from .curves import read_curves as read_curves
from .make import make_report as make_report
