"""A MONAI Deploy application: the DICOM series of one study in, a DICOM SEG of its brain tumour out.

python docs/deploy/app.py --input STUDY --output OUT
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Operator, OperatorSpec

import brats3d
from brats3d.errors import DataError
from brats3d.files import read_volume
from brats3d.scans import find_scans, prepare_scans, read_scans, segmentation_to_native, write_dicom_seg

CONVENTION = "brats2020"


def segment_study(study: Path, output: Path) -> Path:
    """Segment one study and write ``<case_id>.seg.dcm``, which refers to the T1ce series, or to T1 without T1ce.

    Raises:
        DataError: if the folder holds another number of studies than one, or if the study cannot be prepared.
    """
    cases = find_scans(study)
    if len(cases) != 1:
        raise DataError(study, expected="one study", found=len(cases))
    scans, name = read_scans(cases[0]), cases[0].case_id
    source = scans.get("t1ce") or scans["t1"]
    with TemporaryDirectory() as folder:
        work = Path(folder)
        if failed := prepare_scans(study, work / "prepared").failed:
            raise DataError(study, failed[name])
        (prediction,) = brats3d.predict(work / "prepared", work / "predictions", label_convention=CONVENTION)
        native = work / "native.nii.gz"
        segmentation_to_native(prediction, work / "prepared" / name, native, source.modality)
        volume = read_volume(native)
        path = output / f"{name}.seg.dcm"
        return write_dicom_seg(path, volume.values, volume.header.affine, source.dicom_files, CONVENTION)


class SegmentStudy(Operator):
    """The only operator, since every step needs the files of the step before.

    Args:
        study: the input folder.
        output: the output folder.
    """

    def __init__(self, fragment: Any, *args: Any, study: Path, output: Path, **kwargs: Any) -> None:
        self.study, self.output = study, output
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare no ports: input and output are folders."""

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Segment the study."""
        segment_study(self.study, self.output)


class BrainTumourApp(Application):
    """The application. It runs its operator once."""

    def compose(self) -> None:
        """Add the operator."""
        paths = Application.init_app_context(self.argv)
        folders = {"study": Path(paths.input_path), "output": Path(paths.output_path)}
        self.add_operator(SegmentStudy(self, CountCondition(self, 1), name="segment_study", **folders))


if __name__ == "__main__":
    BrainTumourApp().run()
