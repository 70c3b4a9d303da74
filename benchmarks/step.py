"""A training iteration compared with the bare step on tensors in memory, alternating in one process.

    python benchmarks/step.py [--cases 10] [--epochs 8] [--threads 2] [--patch 128] [--batch 2] [--record]

The training is ``train.yaml`` as shipped, with prepared cases in memory. An iteration lasts from the end of one to the
end of the next, including loading, augmentation, handlers, TensorBoard and progress bar. The bare step is forward,
loss, backward and AdamW on a copy of the network and a batch of the training, under the same autocast. After each
epoch, as many bare steps run as the epoch had iterations. The first epoch is a warm-up. One batch of each epoch, the
first of the next, may be prepared during the bare steps; use many cases on a fast device. ``--plain-pages`` keeps
PyTorch from requesting pages of 2 MiB.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time

import torch
from machine import now, rows, show
from workflows import workflow_of

from brats3d.files import use_huge_pages
from brats3d.phantoms import write_phantoms


def measure(folder: str, options: argparse.Namespace) -> tuple[list[float], list[float], float]:
    """Return seconds of iterations and of bare steps, and the fraction of time that the training waited for data."""
    from ignite.engine import Events

    from brats3d.networks import DiceBCELoss, autocast

    torch.set_num_threads(options.threads)
    iterations: list[float] = []
    bare: list[float] = []
    waited, last, begun = [0.0], [0.0], [0.0]
    with tempfile.TemporaryDirectory() as output:
        workflow = workflow_of(
            "train",
            dataset_dir=folder,
            output_dir=output,
            patch_size=[options.patch] * 3,
            batch_size=options.batch,
            epochs=options.epochs + 1,  # stopped before the last one, which would validate
            val_interval=options.epochs + 1,
        )
        workflow.initialize()
        trainer, device = workflow.trainer, torch.device(workflow.device)
        network = copy.deepcopy(workflow.network_def)
        optimizer, loss = torch.optim.AdamW(network.parameters(), 1e-3), DiceBCELoss()

        def bare_step(image: torch.Tensor, label: torch.Tensor) -> None:
            optimizer.zero_grad(set_to_none=True)
            with autocast(device, amp=True):
                logits = network(image)
            loss(logits.float(), label).backward()
            optimizer.step()

        def completed(engine) -> None:
            if engine.state.epoch > 1:
                iterations.append(now(device) - last[0])
            last[0] = now(device)

        def received(engine) -> None:
            if engine.state.epoch > 1:
                waited[0] += time.perf_counter() - begun[0]

        def compare(engine) -> None:
            image, label = engine.state.output["image"], engine.state.output["label"]
            network.to(image.device, memory_format=torch.channels_last_3d).train()
            for _ in range(engine.state.epoch_length):
                start = now(device)
                bare_step(image, label)
                if engine.state.epoch > 1:
                    bare.append(now(device) - start)
            if engine.state.epoch == options.epochs:
                engine.terminate()
            last[0] = now(device)

        trainer.add_event_handler(Events.EPOCH_STARTED, lambda _: last.__setitem__(0, now(device)))
        trainer.add_event_handler(Events.GET_BATCH_STARTED, lambda _: begun.__setitem__(0, time.perf_counter()))
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, received)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, completed)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, compare)
        workflow.run()
    return iterations, bare, waited[0] / sum(iterations)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--plain-pages", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.plain_pages:
        os.environ["THP_MEM_ALLOC_ENABLE"] = "0"
    use_huge_pages()  # before the phantoms, which are tensors too
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(folder, options.cases, seed=7, setting="plain", progress=False)
        iterations, bare, waited = measure(folder, options)
    cells: list[list[object]] = [
        [
            statistics.median(iterations),
            statistics.median(bare),
            statistics.median(iterations) / statistics.median(bare),
            statistics.mean(iterations) / statistics.mean(bare),
            100 * waited,
        ]
    ]
    header = ["iteration, s, median", "bare step, s, median", "ratio of medians", "ratio of means", "waiting, %"]
    pages = "4 KiB" if options.plain_pages else "2 MiB if the system supports them"
    title = f"A training iteration and the bare step: {options.batch} patches of {options.patch}³, pages of {pages}"
    show("training", title, rows(header, cells), options.record)


if __name__ == "__main__":
    main()
