from .head import (
    SIZES as SIZES,
    brain_box as brain_box,
    place_head as place_head,
    sample_tissue as sample_tissue,
    strip_skull as strip_skull,
)
from .noise import Draw as Draw
from .phantom import Phantom as Phantom, make_phantom as make_phantom
from .releases import write_phantoms as write_phantoms
from .settings import SETTINGS as SETTINGS, Contrasts as Contrasts, Ranges as Ranges
from .stream import PhantomCases as PhantomCases, PhantomStream as PhantomStream
