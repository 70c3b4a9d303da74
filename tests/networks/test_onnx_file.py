"""ONNX files of other weights than the checkpoint are refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from monai.networks.nets import UNet

from brats3d.errors import DataError, UsageError
from brats3d.labels import REGIONS
from brats3d.networks import check_onnx, save_checkpoint


@pytest.fixture
def network() -> UNet:
    return UNet(spatial_dims=3, in_channels=1, out_channels=3, channels=(2, 4), strides=(2,))


@pytest.fixture
def checkpoint(network: UNet, tmp_path: Path) -> Path:
    save_checkpoint(
        tmp_path / "best.pt", network.state_dict(), {"modalities": ["t1"], "regions": list(REGIONS), "network_def": {}}
    )
    return tmp_path / "best.pt"


def write_onnx(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    """Write a file with the weights and no nodes."""
    tensors = [onnx.numpy_helper.from_array(value.numpy(), name) for name, value in weights.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], tensors)), path)
    return path


def test_a_file_with_the_weights_of_the_checkpoint_passes(network, checkpoint, tmp_path):
    check_onnx(write_onnx(tmp_path / "a.onnx", network.state_dict()), checkpoint)


def test_other_weights_and_other_networks_are_refused(network, checkpoint, tmp_path):
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    name, value = next(iter(weights.items()))
    value.view(-1)[0] += 1e-3
    with pytest.raises(DataError, match="holds other weights") as caught:
        check_onnx(write_onnx(tmp_path / "a.onnx", weights), checkpoint)
    assert f"1 of {len(weights)} parameters differ, such as {name}" in str(caught.value)
    weights.pop(name)
    with pytest.raises(DataError, match=name):
        check_onnx(write_onnx(tmp_path / "b.onnx", weights), checkpoint)


def test_a_damaged_or_missing_file_is_explained(checkpoint, tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no protobuf")
    with pytest.raises(DataError, match="not a readable ONNX file"):
        check_onnx(tmp_path / "a.onnx", checkpoint)
    with pytest.raises(UsageError, match="an ONNX file"):
        check_onnx(tmp_path / "none.onnx", checkpoint)
