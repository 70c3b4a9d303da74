from .head import (
    SIZES as SIZES,
    find_brain_box as find_brain_box,
    place_head as place_head,
    sample_tissue as sample_tissue,
    strip_skull as strip_skull,
)
from .named_settings import SETTINGS as SETTINGS
from .phantom import Phantom as Phantom, make_phantom as make_phantom
from .phantom_datasets import PhantomCases as PhantomCases, PhantomStream as PhantomStream
from .random_numbers import RandomStream as RandomStream
from .raw_phantom import RawPhantom as RawPhantom, make_raw_phantom as make_raw_phantom
from .raw_scans import Acquisition as Acquisition
from .settings import Contrasts as Contrasts, Setting as Setting
from .write_dataset import LAYOUTS as LAYOUTS, write_phantoms as write_phantoms
