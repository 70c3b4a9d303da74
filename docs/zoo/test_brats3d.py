"""The unit test of the bundle for MONAI's model zoo: goes to its ci/unit_tests, the bundle to models/brats3d."""

import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from monai.bundle import ConfigWorkflow
from utils import check_workflow

from brats3d.phantoms import write_phantoms

BUNDLE = Path("models/brats3d")


class TestBrats3d(unittest.TestCase):
    """Trains, evaluates and segments on synthetic cases of a quarter of the size."""

    def setUp(self) -> None:
        """Write the cases."""
        self.folder = TemporaryDirectory()
        write_phantoms(f"{self.folder.name}/cases", 3, size="small")

    def tearDown(self) -> None:
        """Remove everything."""
        self.folder.cleanup()

    def check(self, workflow_type: str, *names: str, **knobs: object) -> None:
        """Run a workflow, and check the properties that MONAI defines for its type."""
        workflow = ConfigWorkflow(
            workflow_type=workflow_type,
            config_file=[str(BUNDLE / "configs" / name) for name in names],
            logging_file=str(BUNDLE / "configs" / "logging.conf"),
            meta_file=str(BUNDLE / "configs" / "metadata.json"),
            bundle_root=str(BUNDLE),
            dataset_dir=f"{self.folder.name}/cases",
            output_dir=f"{self.folder.name}/out",
            window=[32, 32, 32],
            **knobs,
        )
        check_workflow(workflow, check_properties=True)

    def test_train_and_evaluate(self) -> None:
        """A run of one epoch, and its scores."""
        training = {"epochs": 1, "val_interval": 1, "patch_size": [32, 32, 32], "cache": 0}
        self.check("train", "train.json", **training)
        self.check("train", "train.json", "evaluate.json", **training)

    def test_infer(self) -> None:
        """Segmentations with the weights of the bundle."""
        self.check("infer", "inference.json")


if __name__ == "__main__":
    unittest.main()
