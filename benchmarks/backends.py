"""One window through the network: PyTorch as predict runs it, plain PyTorch, TorchScript and ONNX Runtime.

    python benchmarks/backends.py model.ts model.onnx [--side 128] [--rounds 12] [--record]

The model card has the commands that write the files. The backends take turns, each with one thread. The ratio is that
of the CPU seconds to those of predict in float32. Differences from plain PyTorch in float32 are those of the logits and
of the voxels of the three regions, on noise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import onnxruntime
import torch
from machine import rows, show
from workflows import workflow_of

from brats3d.bundle import installed_bundle
from brats3d.files import use_huge_pages
from brats3d.labels import MODALITIES
from brats3d.networks import autocast, check_onnx, load_weights, with_window_norms

Backend = Callable[[torch.Tensor], torch.Tensor]


def shipped_network() -> torch.nn.Module:
    network = workflow_of("predict").parser.get_parsed_content("network_def").eval()
    load_weights(network, installed_bundle() / "models" / "model.pt", MODALITIES)
    return network


def eager(network: torch.nn.Module, amp: bool = False) -> Backend:
    def infer(image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), autocast(image.device, amp):
            return network(image).float()

    return infer


def onnx(file: str) -> Backend:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("torchscript")
    parser.add_argument("onnx")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    check_onnx(options.onnx, installed_bundle() / "models" / "model.pt")
    use_huge_pages()
    torch.set_num_threads(1)
    network, other = (shipped_network() for _ in range(2))
    predict = with_window_norms(other.to(memory_format=torch.channels_last_3d))
    backends = {
        "predict, float32": eager(predict),
        "predict, bfloat16 (the default)": eager(predict, amp=True),
        "plain PyTorch, float32": eager(network),
        "TorchScript, float32": eager(torch.jit.load(options.torchscript)),
        "ONNX Runtime, float32": onnx(options.onnx),
    }
    image = torch.randn(1, len(MODALITIES), *[options.side] * 3, generator=torch.Generator().manual_seed(0))
    logits = {name: infer(image) for name, infer in backends.items()}  # warms up, too
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in backends}
    for _ in range(options.rounds):
        for name, infer in backends.items():
            wall, cpu = time.perf_counter(), time.process_time()
            infer(image)
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    median = {name: [statistics.median(values) for values in zip(*s, strict=True)] for name, s in seconds.items()}
    reference = logits["plain PyTorch, float32"]
    table: list[list[object]] = [
        [
            name,
            wall,
            cpu,
            cpu / median["predict, float32"][1],
            float((logits[name] - reference).abs().max()),
            int(((logits[name] > 0) != (reference > 0)).sum()),
        ]
        for name, (wall, cpu) in median.items()
    ]
    header = ["backend", "seconds", "CPU seconds", "ratio", "largest difference of logits", "voxels that differ"]
    runtime = f"onnxruntime {onnxruntime.__version__}"
    title = f"Backends on a CPU: a window of {options.side}³, medians of {options.rounds} rounds, {runtime}"
    show("inference", title, rows(header, table), options.record, "cpu")


if __name__ == "__main__":
    main()
