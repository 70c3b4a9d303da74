"""A MONAI Deploy application: DICOM series in, a DICOM SEG of the brain tumour of each study out.

python docs/deploy/app.py --input STUDY --output OUT
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Operator, OperatorSpec

import brats3d


def segment_studies(studies: Path, output: Path) -> list[Path]:
    """Write ``<case_id>.seg.dcm`` for each study. It refers to the T1ce series, or to T1 if there is no T1ce.

    Raises:
        DataError: if a study cannot be segmented. Nothing is written.
    """
    with TemporaryDirectory() as work:
        brats3d.predict(studies, work)
        output.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(path, output)) for path in sorted(Path(work).glob("*.seg.dcm"))]


class SegmentStudies(Operator):
    """The only operator, since every step needs the files of the step before.

    Args:
        studies: the input folder.
        output: the output folder.
    """

    def __init__(self, fragment: Any, *args: Any, studies: Path, output: Path, **kwargs: Any) -> None:
        self.studies, self.output = studies, output
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare no ports: input and output are folders."""

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Segment the studies."""
        segment_studies(self.studies, self.output)


class BrainTumourApp(Application):
    """The application. It runs its operator once."""

    def compose(self) -> None:
        """Add the operator."""
        paths = Application.init_app_context(self.argv)
        folders = {"studies": Path(paths.input_path), "output": Path(paths.output_path)}
        self.add_operator(SegmentStudies(self, CountCondition(self, 1), name="segment_studies", **folders))


if __name__ == "__main__":
    BrainTumourApp().run()
