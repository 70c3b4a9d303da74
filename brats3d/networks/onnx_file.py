"""Check that an exported ONNX file holds the weights of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from brats3d.errors import DataError, UsageError
from brats3d.networks.checkpoint_file import read_checkpoint


def check_onnx(path: str | Path, checkpoint: str | Path) -> None:
    """Refuse an ONNX file that was exported from other weights than those of a checkpoint.

    The parameters are compared by name, which PyTorch's exporter keeps.

    Args:
        path: the ``.onnx`` file.
        checkpoint: the ``.pt`` file that it should be exported from.

    Raises:
        UsageError: if onnx is not installed, or the file does not exist.
        DataError: if the file cannot be read, or a parameter is missing or has other values.
    """
    try:
        import onnx
        from onnx.numpy_helper import to_array
    except ModuleNotFoundError:
        raise UsageError("onnx", "is not installed", advice='pip install "brats3d[onnx]"') from None
    if not Path(path).is_file():
        raise UsageError("path", expected="an ONNX file", found=str(path))
    try:
        stored = {tensor.name: to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    except Exception as error:  # protobuf's own types
        raise DataError(path, "is not a readable ONNX file", advice="export it again") from error
    content, _ = read_checkpoint(checkpoint)
    weights = {name: value.float().numpy() for name, value in content.get("network", content).items()}
    other = [name for name, value in weights.items() if name not in stored or not np.array_equal(stored[name], value)]
    if other:
        found = f"{len(other)} of {len(weights)} parameters differ, such as {other[0]}"
        advice = f"export it from {checkpoint}, or pass the checkpoint that it was exported from"
        raise DataError(path, f"holds other weights than {checkpoint}: {found}", advice=advice)
