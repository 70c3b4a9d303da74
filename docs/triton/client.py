"""Segment a folder of cases with the network on a Triton server. Everything but the network runs here.

python docs/triton/client.py CASE_OR_DIR OUT [HOST:PORT]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from monai.bundle import create_workflow

from brats3d.bundle import installed_bundle
from brats3d.files import write_segmentation


def segment(cases: str, output: str, network: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Write ``<case_id>.nii.gz`` of each case, as ``predict`` with sliding windows would.

    Args:
        cases: folder of a case or of several, in BraTS's form.
        output: folder to write to; existing segmentations are replaced.
        network: returns the logits (1, 3, 128, 128, 128) of a window (1, 4, 128, 128, 128).
    """
    bundle = installed_bundle()
    config = str(bundle / "configs" / "inference.yaml")
    folders = {"bundle_root": str(bundle), "dataset_dir": cases, "output_dir": output}
    workflow = create_workflow(config_file=config, workflow_type="infer", logging_file=False, **folders)
    for case in workflow.dataset:
        case["pred"] = workflow.inferer(case["image"][None], network)[0]
        label = workflow.postprocessing(case)["pred"][0].numpy()
        like = case["image"].meta["filename_or_obj"]
        write_segmentation(Path(output) / f"{case['case_id']}.nii.gz", label, like, "brats2020")


def triton_network(url: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that sends a window to the model ``brats3d`` of a server and returns its logits."""
    import tritonclient.http as triton

    client = triton.InferenceServerClient(url, network_timeout=600)

    def network(window: torch.Tensor) -> torch.Tensor:
        image = triton.InferInput("image", list(window.shape), "FP32")
        image.set_data_from_numpy(window.numpy())
        return torch.from_numpy(client.infer("brats3d", [image]).as_numpy("pred").copy())

    return network


if __name__ == "__main__":
    segment(sys.argv[1], sys.argv[2], triton_network((*sys.argv[3:], "localhost:8000")[0]))
