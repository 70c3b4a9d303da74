"""Time of a segmentation by stage, and of the network by operation.

    python benchmarks/where.py [--cases 3] [--device cpu] [--record]

The stages of ``inference.yaml`` run one after the other in this process; a real run reads the next case while the
network works on the current one. Each value is the median over all cases but the first. The operations are those of one
window of 128³, by torch.profiler, as fractions of its time. Then the same window runs with PyTorch's norms instead of
ours, and with ``torch.compile``, whose first call is slower still if its disk cache is empty.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from machine import now, rows, show
from workflows import workflow_of

from brats3d.files import use_huge_pages
from brats3d.phantoms import write_phantoms

TOP = 8
"""Number of operations in the table."""


def prepare(folder: Path, device: str, window: object) -> Any:
    """Initialise ``inference.yaml`` with the shipped weights."""
    from brats3d.networks import load_weights

    workflow = workflow_of(
        "predict",
        dataset_dir=str(folder),
        output_dir=str(folder.parent / "out"),
        device=f"$torch.device('{device}')",
        window=window,
    )
    workflow.initialize()
    names = ("predictor#network", "checkpoint", "modalities")
    load_weights(*(workflow.parser.get_parsed_content(name) for name in names))
    return workflow


def stages(workflow: Any, device: torch.device) -> dict[str, float]:
    """Return stage -> seconds per case, median of all but the first."""
    from brats3d.files import write_segmentation
    from brats3d.networks import autocast

    parser = workflow.parser
    network = parser.get_parsed_content("predictor#network").eval()
    inferer, before = parser.get_parsed_content("predictor#inferer"), parser.get_parsed_content("preprocessing")
    after = parser.get_parsed_content("postprocessing")
    seconds: dict[str, list[float]] = defaultdict(list)
    for item in parser.get_parsed_content("dataset").data:
        case = {"image": item["image"]}
        for transform in before.transforms:
            start = now(device)
            case = transform(case)
            seconds[type(transform).__name__].append(now(device) - start)
        start = now(device)
        with torch.inference_mode(), autocast(device, amp=True):
            case["pred"] = inferer(case["image"].as_tensor()[None].to(device), network)[0]
        seconds["network"].append(now(device) - start)
        for transform in after.transforms:
            start = now(device)
            case = transform(case)
            seconds[type(transform).__name__].append(now(device) - start)
        start = now(device)
        labels = case["pred"][0].cpu().numpy()
        write_segmentation(Path(workflow.parser["output_dir"], "labels.nii.gz"), labels, item["image"][0])
        seconds["write"].append(now(device) - start)
    return {name: statistics.median(each[1:]) for name, each in seconds.items()}


def operations(network: torch.nn.Module, image: torch.Tensor) -> list[tuple[str, float]]:
    """Return (operation, fraction of the time) of the most expensive operations."""
    from torch.profiler import ProfilerActivity, profile

    from brats3d.networks import autocast

    cuda = image.device.type == "cuda"
    with torch.inference_mode(), autocast(image.device, amp=True):
        network(image)
        with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
            for _ in range(3):
                network(image)
    times = {
        each.key: each.self_device_time_total if cuda else each.self_cpu_time_total for each in profiler.key_averages()
    }
    total = sum(times.values())
    return sorted(((name, each / total) for name, each in times.items()), key=lambda pair: -pair[1])[:TOP]


def compiled(network: torch.nn.Module, plain: torch.nn.Module, image: torch.Tensor, turns: int = 7) -> dict[str, float]:
    """Time a window with the network as shipped, with PyTorch's norms, and with these compiled."""
    from brats3d.networks import autocast

    networks = {"as shipped": network, "PyTorch's norms": plain, "PyTorch's norms, compiled": torch.compile(plain)}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    with torch.inference_mode(), autocast(image.device, amp=True):
        for _ in range(1 + turns):
            for name, each in networks.items():
                start = now(image.device)
                each(image)
                seconds[name].append(now(image.device) - start)
    found = {name: statistics.median(each[1:]) for name, each in seconds.items()}
    return found | {"first call of the compiled one": seconds["PyTorch's norms, compiled"][0]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--size", choices=["full", "small"], default="full")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    use_huge_pages()  # before the phantoms, which are tensors too
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "cases")
        write_phantoms(data, options.cases, seed=7, size=options.size, setting="plain", progress=False)
        workflow = prepare(data, options.device, [128, 128, 128])
        network = workflow.parser.get_parsed_content("predictor#network").eval()
        plain = workflow.parser.get_parsed_content("network_def").eval()  # without brats3d's norms
        windows = stages(workflow, device)
        whole = stages(prepare(data, options.device, "brain"), device)
    cells: list[list[object]] = [[name, windows[name], whole[name]] for name in windows]
    cells.append(["all, one after the other", sum(windows.values()), sum(whole.values())])
    title = f"Time per stage, {options.device}"
    show("inference", title, rows(["stage", "windows", "one pass"], cells), options.record, options.device)
    image = torch.randn(1, 4, 128, 128, 128, device=device).contiguous(memory_format=torch.channels_last_3d)
    cells = [[name, 100 * fraction] for name, fraction in operations(network, image)]
    title = f"Time of the network by operation, one window of 128³, {options.device}"
    show("inference", title, rows(["operation", "%"], cells), options.record, options.device)
    found = compiled(network, plain, image)
    show(
        "inference",
        f"A window of 128³, {options.device}, seconds",
        rows(list(found), [list(found.values())]),
        options.record,
        options.device,
    )


if __name__ == "__main__":
    main()
