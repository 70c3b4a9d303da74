from .dicom_seg import SEGMENTS as SEGMENTS, write_dicom_seg as write_dicom_seg
from .scan import Scan as Scan
