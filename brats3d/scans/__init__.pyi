from .dicom_seg import SEGMENTS as SEGMENTS, write_dicom_seg as write_dicom_seg
from .find_scans import RawCase as RawCase, find_scans as find_scans, read_scans as read_scans
from .scan import Scan as Scan
