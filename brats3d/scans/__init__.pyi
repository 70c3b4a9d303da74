from .dicom_seg import SEGMENTS as SEGMENTS, write_dicom_seg as write_dicom_seg
from .find_scans import RawCase as RawCase, find_scans as find_scans, read_scans as read_scans
from .native_space import segmentation_to_native as segmentation_to_native
from .prepare_folder import prepare_scans as prepare_scans
from .raw_scans import BRATS_SPACE as BRATS_SPACE, RawScans as RawScans
from .scan import Scan as Scan
