"""Training on a stream of phantoms, with a clock that counts steps."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from brats3d import cli
from brats3d.bundle import config_files
from brats3d.data.absent_sequences import subsets
from brats3d.files import cause_of
from brats3d.labels import MODALITIES
from brats3d.phantoms import phantom_datasets as stream
from brats3d.report.curves import read_curves
from brats3d.training.run_lock import LOCK_NAME

SMALL: dict[str, Any] = {
    "size": "small",
    "epoch_length": 4,
    "val_cases": 1,
    "val_interval": 50,
    "pool": 2,
    "patches_per_phantom": 4,
    "network_def#num_res_units": 0,
}
Pretraining = Callable[..., ConfigWorkflow]


@pytest.fixture(scope="session")
def pretraining(workflow: Callable[..., ConfigWorkflow]) -> Pretraining:
    """``pretraining(output, steps, **knobs)`` builds a tiny pretraining whose clock advances a minute per step."""

    def make(output: Path, steps: int, **knobs: Any) -> ConfigWorkflow:
        built = workflow("pretrain", output_dir=output, minutes=steps, **{**SMALL, **knobs})
        schedule, trainer = (built.parser.get_parsed_content(id_) for id_ in ("lr_scheduler", "train#trainer"))
        schedule.stopwatch.now = lambda: 60 * trainer.state.iteration
        return built

    return make


@pytest.fixture(scope="session")
def pretrained(pretraining: Pretraining, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder after ten steps: two epochs and half of a third."""
    output = tmp_path_factory.mktemp("pretrained") / "run"
    pretraining(output, steps=10).run()
    return output


def read(run: Path, name: str = "last") -> Any:
    return torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True)


def test_a_pretraining_writes_what_a_training_writes(pretrained: Path) -> None:
    files = {p.relative_to(pretrained).as_posix() for p in pretrained.rglob("*") if p.is_file()}
    assert {f for f in files if "events.out.tfevents" not in f} == {
        "settings.json", "metrics.json", "checkpoints/best.pt", "checkpoints/best.json", "checkpoints/last.pt",
        "checkpoints/last.json", "checkpoints/previous.pt", LOCK_NAME,
    }  # fmt: skip
    curves = read_curves(pretrained)
    assert {tag: [step for step, _ in points] for tag, points in curves.items()} == {
        tag: [10] for tag in ("val_mean_dice", "val_dice_wt", "val_dice_tc", "val_dice_et")
    }


def test_the_card_has_the_provenance_of_the_weights(pretrained: Path) -> None:
    card = json.loads((pretrained / "checkpoints" / "best.json").read_text())
    entries = {name: card[name] for name in ("config", "seed", "iteration", "epoch", "minutes", "absent_sequences")}
    assert entries == {
        "config": "pretrain.yaml", "seed": 0, "iteration": 10, "epoch": 3, "minutes": 10, "absent_sequences": True,
    }  # fmt: skip
    assert "threads" in card["device"] and card["commit"] and "no patient data" in card["trained_on"]
    assert len(card["stages"]) == 1 and card["stages"][0].startswith("10 steps, 10 minutes on ")
    assert "learning_rate 0.001, setting wide, healthy 0.2" in card["stages"][0]
    assert set(card["scores"]) == {"val_mean_dice", "val_dice_wt", "val_dice_tc", "val_dice_et"}


def test_the_best_weights_are_those_of_the_moving_average(pretrained: Path) -> None:
    last, best = read(pretrained), read(pretrained, "best")
    average = {name.removeprefix("module."): w for name, w in last["average"].items() if name.startswith("module.")}
    assert average.keys() == best.keys() == last["network"].keys()
    assert all(torch.equal(average[name], best[name]) for name in best)
    assert not any(torch.equal(last["network"][name], best[name]) for name in best if best[name].ndim > 1)
    assert last["average"]["n_averaged"] == 10


def test_a_finished_pretraining_is_reported_and_more_minutes_continue_it(
    pretraining: Pretraining, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    pretraining(tmp_path, steps=4).run()
    assert "finished: best mean Dice" in log.text
    pretraining(tmp_path, steps=4).run()
    assert "is finished: 4 steps, 4.0 of 4 minutes" in log.text
    assert read(tmp_path)["iteration"] == 4
    pretraining(tmp_path, steps=6).run()
    assert "resuming" in log.text
    assert read(tmp_path)["iteration"] == 6
    assert read(tmp_path)["lr_scheduler"]["seconds"] == 360


def test_an_interrupted_pretraining_resumes_with_phantoms_that_were_never_used(
    pretraining: Pretraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, grow = [], stream.make_case

    def spy(namespace: str, number: int, *rest: Any) -> dict[str, Any]:
        if namespace.startswith("training"):
            numbers.append(number)
        return grow(namespace, number, *rest)

    monkeypatch.setattr(stream, "make_case", spy)
    stopped = pretraining(tmp_path, steps=12)

    def stop() -> None:
        raise KeyboardInterrupt

    stopped.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), stop)
    with contextlib.suppress(KeyboardInterrupt, RuntimeError):
        stopped.run()
    state = read(tmp_path)
    assert (state["iteration"], state["average"]["n_averaged"], state["lr_scheduler"]["seconds"]) == (4, 4, 240)
    used, numbers[:] = numbers[: state["stream"]["made"]], []

    again = pretraining(tmp_path, steps=12)
    rates = []
    again.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: rates.append(e.optimizer.param_groups[0]["lr"])
    )
    again.run()
    assert numbers[0] == state["stream"]["made"] == len(used) > 0
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    state = read(tmp_path)
    assert (state["iteration"], state["average"]["n_averaged"]) == (12, 12)
    assert state["stream"] == {"made": numbers[-1] + 1, "drawn": 12}
    falling = [0.001 * (1 + math.cos(math.pi * (step / 12 - 0.05) / 0.95)) / 2 for step in range(5, 13)]
    assert rates == pytest.approx(falling), "the time continues too"


def test_other_settings_are_refused_except_free_ones(pretrained: Path, pretraining: Pretraining) -> None:
    built = pretraining(pretrained, steps=20, pool=7, learning_rate=0.5, size="full")
    with pytest.raises(RuntimeError) as caught:
        built.run()
    assert sorted(cause_of(caught.value).problems) == ["learning_rate was 0.001, is 0.5", "size was 'small', is 'full'"]


def test_the_loss_falls(pretraining: Pretraining, tmp_path: Path) -> None:
    built, losses = pretraining(tmp_path, steps=24, all_present=1, without_t1ce=0, learning_rate=0.01, batch_size=1), []
    built.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
    built.run()
    assert len(losses) == 24
    assert sum(losses[-8:]) < 0.95 * sum(losses[:8])


def test_absent_sequences_of_a_patch_are_exactly_zero(pretraining: Pretraining, tmp_path: Path) -> None:
    built = pretraining(
        tmp_path, steps=1, all_present=0, without_t1ce=0, pool=1, patches_per_phantom=200, patch_mix=[1, 0, 0]
    )
    found = set()
    for sample, _ in zip(built.train_dataset, range(200), strict=False):
        image, label = sample["image"], sample["label"]
        assert image.shape == (4, 32, 32, 32) and label.shape == (4, 32, 32, 32)
        present = [name for name, channel in zip(MODALITIES, image, strict=True) if channel.any()]
        found.add(tuple(present))
        assert all(channel.std() > 0.05 for channel in image if channel.any())
    assert found == set(subsets(MODALITIES))


def test_samples_do_not_change_their_phantom(pretraining: Pretraining, tmp_path: Path) -> None:
    phantoms = iter(pretraining(tmp_path, steps=1, pool=1, patches_per_phantom=50).train_dataset)
    next(phantoms)
    prepared = phantoms.gi_frame.f_locals["self"]._pool[0].prepared
    before = {name: prepared[name].clone() for name in ("image", "label")}
    for _ in range(20):
        next(phantoms)
    assert all(torch.equal(prepared[name], value) for name, value in before.items())
    assert prepared["image"].is_contiguous() and type(prepared["image"]) is torch.Tensor


@pytest.mark.parametrize("present", subsets(MODALITIES), ids="+".join)
def test_every_subset_of_the_sequences_is_segmented(
    pretrained: Path, pretraining: Pretraining, tmp_path: Path, present: tuple[str, ...]
) -> None:
    built = pretraining(tmp_path, steps=1)
    built.network_def.load_state_dict(read(pretrained, "best"))
    image = torch.randn(1, 4, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    image[:, [i for i, name in enumerate(MODALITIES) if name not in present]] = 0
    with torch.no_grad():
        logits = built.network_def.eval()(image)
    assert logits.shape == (1, 3, 32, 32, 32) and logits.isfinite().all()


def test_pretraining_on_three_sequences_needs_one_knob(pretraining: Pretraining, tmp_path: Path) -> None:
    three = ["t1", "t2", "flair"]
    built = pretraining(tmp_path, steps=2, modalities=three, all_present=0, without_t1ce=0)
    built.run()
    card = json.loads((tmp_path / "checkpoints" / "best.json").read_text())
    assert card["modalities"] == three and card["absent_sequences"]


def test_the_card_keeps_the_trainings_before_a_warm_start(
    pretrained: Path, pretraining: Pretraining, tmp_path: Path
) -> None:
    start = tmp_path / "start.pt"
    for suffix in (".pt", ".json"):
        shutil.copy(pretrained / "checkpoints" / f"best{suffix}", start.with_suffix(suffix))
    first = json.loads(start.with_suffix(".json").read_text())["stages"]
    pretraining(tmp_path / "run", steps=2, checkpoint=start).run()
    start.unlink()
    pretraining(tmp_path / "run", steps=4, checkpoint=start).run()  # resumes
    card = json.loads((tmp_path / "run" / "checkpoints" / "last.json").read_text())
    assert card["stages"][:-1] == first
    assert card["stages"][-1].startswith("4 steps, 4 minutes")
    assert card["trained_on"].count("no patient data") == 1


def test_the_auxiliary_loss_is_trained_resumed_and_not_part_of_the_weights(
    pretraining: Pretraining, tmp_path: Path
) -> None:
    pretraining(tmp_path, steps=4).run()
    head = read(tmp_path)["loss"]
    assert read(tmp_path, "best").keys() == pretraining(tmp_path, steps=4).network_def.state_dict().keys()
    built, seen = pretraining(tmp_path, steps=7), []
    loss = built.parser.get_parsed_content("loss")
    built.trainer.add_event_handler(Events.STARTED, lambda: seen.append(loss.head.weight.clone()))
    built.run()
    assert torch.equal(seen[0], head["head.weight"])
    assert not torch.equal(read(tmp_path)["loss"]["head.weight"], seen[0])


def test_patches_have_several_sizes_and_those_of_a_batch_were_cut_alike(
    pretraining: Pretraining, tmp_path: Path
) -> None:
    built = pretraining(tmp_path, steps=1, batch_size=2, pool=1, patches_per_phantom=200, patch_mix=[0.5, 0, 0.5])
    samples = [sample["image"].shape[1:] for sample, _ in zip(built.train_dataset, range(40), strict=False)]
    assert samples[::2] == samples[1::2]
    whole = tuple(max(32, -(-n // 16) * 16) for n in built.train_dataset._pool[0].prepared["image"].shape[1:])
    assert set(samples) == {(32, 32, 32), whole}
    mixed = pretraining(tmp_path, steps=1, pool=1, patches_per_phantom=200, patch_mix=[0, 1, 0])
    sizes = {sample["image"].shape[1:] for sample, _ in zip(mixed.train_dataset, range(40), strict=False)}
    assert len(sizes) > 1 and all(n in (32, 48) for size in sizes for n in size)
    built = pretraining(tmp_path, steps=1, batch_size=8, patch_mix=[0, 1, 0])
    batch = next(iter(built.parser.get_parsed_content("train#dataloader")))
    assert batch["label"].shape == (8, 4, *batch["image"].shape[2:])


def test_a_pretraining_starts_from_a_checkpoint(pretrained: Path, pretraining: Pretraining, tmp_path: Path) -> None:
    best = pretrained / "checkpoints" / "best.pt"
    built, seen = pretraining(tmp_path, steps=1, checkpoint=best), []

    def note() -> None:
        seen.append({name: w.clone() for name, w in built.network_def.state_dict().items()})

    built.trainer.add_event_handler(Events.STARTED, note)
    built.run()
    assert all(torch.equal(w, seen[0][name]) for name, w in read(pretrained, "best").items())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("minutes", 0),
        ("pool", 0),
        ("size", "big"),
        ("setting", "mine"),
        ("all_present", 0.9),
        ("without_t1ce", -1),
        ("ema_decay", 1),
        ("val_cases", 0),
        ("patches_per_phantom", 0),
        ("patch_size", [40, 40, 40]),
        ("patch_mix", [1, -1, 1]),
        ("patch_mix", [1, 1]),
        ("tissue_weight", -1),
    ],
)
def test_a_knob_outside_its_range_is_refused_by_name(
    name: str, value: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {**SMALL, "patch_size": [32, 32, 32], "minutes": 1, "output_dir": str(tmp_path / "out"), name: value}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    assert cli.main(["pretrain", *arguments]) in (1, 2)
    error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("brats3d: error: ")]
    assert len(error) == 1 and f"{name}: expected" in error[0]
    assert not (tmp_path / "out").exists()


def test_the_command_takes_minutes_and_no_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny = ["--network_def#channels", "[4,8,8,8,8]", "--window", "[48,48,48]", "--patch_size", "[32,32,32]"]
    small = ["--size", "small", "--val_cases", "1", "--pool", "1", "--epoch_length", "1", "--device", "cpu"]
    run = tmp_path / "run"
    assert cli.main(["pretrain", "--minutes", "0.001", "--output", str(run), "--amp", "false", *tiny, *small]) == 0
    assert (run / "checkpoints" / "best.pt").is_file()
    printed = capfd.readouterr().out
    files = [str(file) for file in config_files("pretrain")]
    assert f'python -m monai.bundle run training --config_file "{files}" --minutes 0.001' in printed
    assert cli.main(["pretrain", str(tmp_path)]) == 2
    assert "pretrain reads no cases" in capfd.readouterr().err


@pytest.mark.gpu
def test_phantoms_are_generated_and_cropped_on_the_gpu(pretraining: Pretraining, tmp_path: Path) -> None:
    built = pretraining(tmp_path, steps=3, device="cuda")
    assert next(iter(built.train_dataset))["image"].device.type == "cuda"
    built.run()
    assert read(tmp_path)["iteration"] == 3
