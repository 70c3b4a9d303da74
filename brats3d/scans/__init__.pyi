from .scan import Scan as Scan
