"""The exports of the model card predict what PyTorch predicts; so do the client for Triton and the TensorRT overlay."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fire
import nibabel as nib
import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow, scripts
from monai.transforms import NormalizeIntensity
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

import brats3d
from brats3d.bundle import installed_bundle
from brats3d.labels import MODALITIES
from brats3d.networks import check_onnx, load_weights
from brats3d.phantoms import make_phantom

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TRITON = ROOT / "docs" / "triton"
SHAPES = [(64, 64, 64), (96, 64, 80), (128, 128, 128)]


@dataclass(frozen=True)
class Window:
    """A window of a phantom (1, 4, H, W, D), and PyTorch's logits of it in float32 (1, 3, H, W, D)."""

    image: torch.Tensor
    logits: torch.Tensor


def export(command: str, folder: Path) -> Path:
    """Run an export command of the model card, and return the file that it writes to the folder."""
    page = (ROOT / "bundle" / "docs" / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(rf"^python -m monai\.bundle {command} (.*)$", page, re.MULTILINE)
    words = [str(ROOT / word) if word.startswith("bundle/") else word for word in shlex.split(line)]
    file = words.index("--filepath") + 1
    words[file] = str(folder / words[file])
    fire.Fire(getattr(scripts, command), command=words)
    return Path(words[file])


def crop_centre(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    starts = [(size - n) // 2 for size, n in zip(image.shape[1:], shape)]
    return image[(slice(None), *(slice(start, start + n) for start, n in zip(starts, shape)))]


@pytest.fixture(scope="module")
def windows() -> list[Window]:
    """The centre of two phantoms, in windows of three shapes."""
    config = ConfigParser()
    config.read_config(installed_bundle() / "configs" / "inference.yaml")
    network = config.get_parsed_content("network_def").eval()
    load_weights(network, installed_bundle() / "models" / "model.pt", MODALITIES)
    normalize = NormalizeIntensity(nonzero=True, channel_wise=True)
    made = []
    for seed in (1, 2):
        images = make_phantom(seed).images
        case = normalize(np.stack([images[name] for name in MODALITIES]).astype(np.float32))
        for shape in SHAPES:
            image = torch.from_numpy(crop_centre(np.asarray(case), shape))[None]
            with torch.inference_mode():
                made.append(Window(image, network(image)))
    return made


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    """The exported ONNX file in ONNX Runtime, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    file = export("onnx_export", tmp_path_factory.mktemp("onnx"))
    check_onnx(file, installed_bundle() / "models" / "model.pt")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


@pytest.fixture
def on_onnx_runtime(session: onnxruntime.InferenceSession) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda image: torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0])


def test_torchscript_returns_the_same_bits_as_pytorch(windows: list[Window], tmp_path: Path) -> None:
    network = torch.jit.load(export("ckpt_export", tmp_path))
    for window in windows:
        with torch.inference_mode():
            assert torch.equal(network(window.image), window.logits)


def test_onnx_differs_by_a_hundredth_in_logits_and_one_voxel_in_100_000_of_the_regions(
    windows, on_onnx_runtime
) -> None:
    for window in windows:
        logits = on_onnx_runtime(window.image)
        assert (logits - window.logits).abs().max() < 1e-2
        differs = ((logits > 0) != (window.logits > 0)).any(1)
        assert differs.sum() <= 1e-5 * differs.numel()
    assert all((window.logits > 0).any() for window in windows)  # there was something to segment


def test_onnx_takes_several_windows_but_no_other_sides_than_multiples_of_16(on_onnx_runtime) -> None:
    assert on_onnx_runtime(torch.zeros(2, 4, 32, 48, 64)).shape == (2, 3, 32, 48, 64)
    with pytest.raises(Fail, match="Concat"):
        on_onnx_runtime(torch.zeros(1, 4, 40, 32, 32))


def test_the_configuration_for_triton_describes_the_onnx_file(session: onnxruntime.InferenceSession) -> None:
    text = (TRITON / "config.pbtxt").read_text(encoding="utf-8")
    described = re.findall(r'name: "(\w+)" data_type: TYPE_FP32 dims: \[ (\d), -1, -1, -1 \]', text)
    tensors = [*session.get_inputs(), *session.get_outputs()]
    assert [(tensor.name, str(tensor.shape[1])) for tensor in tensors] == described
    assert {tensor.type for tensor in tensors} == {"tensor(float)"}
    assert all(isinstance(tensor.shape[axis], str) for tensor in tensors for axis in (0, 2, 3, 4))  # any size


@pytest.fixture(scope="module")
def case(phantoms: Path) -> Path:
    return min(path for path in phantoms.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def predicted(case: Path, tmp_path_factory: pytest.TempPathFactory) -> nib.Nifti1Image:
    """The segmentation by ``predict`` with sliding windows in float32."""
    folder = tmp_path_factory.mktemp("predicted")
    (path,) = brats3d.predict(case, folder, window=[128, 128, 128], amp=False, device="cpu")
    return nib.load(path)


def count_differing(path: Path, predicted: nib.Nifti1Image) -> int:
    """Return the number of voxels of a segmentation that differ."""
    found = nib.load(path)
    assert np.array_equal(found.affine, predicted.affine)
    label = np.asarray(predicted.dataobj)
    assert label.any()
    return int(np.count_nonzero(label != np.asarray(found.dataobj)))


def test_the_client_for_triton_segments_as_predict_with_windows_does(
    case, predicted, on_onnx_runtime, tmp_path
) -> None:
    spec = importlib.util.spec_from_file_location("triton_client", TRITON / "client.py")
    assert spec and spec.loader
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    client.segment(str(case), str(tmp_path), on_onnx_runtime)
    # In a window of 128³ that is mostly padding, ONNX Runtime is less accurate: 2 of 92,160 voxels differed.
    assert count_differing(tmp_path / f"{case.name}.nii.gz", predicted) <= 10


def test_without_tensorrt_its_overlay_segments_in_pytorch(case, predicted, tmp_path) -> None:
    bundle = installed_bundle()
    run = create_workflow(
        config_file=[str(bundle / "configs" / name) for name in ("inference.yaml", "inference_trt.yaml")],
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(case),
        output_dir=str(tmp_path),
        device="cpu",
    )
    run.run()
    assert count_differing(tmp_path / f"{case.name}.nii.gz", predicted) <= 1  # rounding in InstanceNorm
