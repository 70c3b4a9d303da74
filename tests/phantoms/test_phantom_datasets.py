"""The endless stream of phantoms: numbers, uses, seeds. Most tests replace each phantom by its number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
import torch
from monai.transforms import Compose, MapTransform, RandomizableTransform

from brats3d.errors import UsageError
from brats3d.labels import MODALITIES
from brats3d.phantoms import phantom_datasets as stream
from brats3d.phantoms.phantom_datasets import PhantomCases, PhantomStream, make_case


class AddNoise(RandomizableTransform, MapTransform):
    """A random transform that adds one random number."""

    def __init__(self) -> None:
        MapTransform.__init__(self, "image")
        RandomizableTransform.__init__(self)

    def __call__(self, data: dict) -> dict:
        return {**data, "noise": self.R.uniform()}


class Prepare(MapTransform):
    """A deterministic transform that counts its calls."""

    def __init__(self) -> None:
        super().__init__("image")
        self.calls = 0

    def __call__(self, data: dict) -> dict:
        self.calls += 1
        return {**data, "image": data["image"] + 0.5}


@pytest.fixture
def grown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Replace phantoms by their number; return (namespace, number) of each one made."""
    made: list[tuple[str, int]] = []

    def grow(namespace: str, number: int, *_: object) -> dict:
        made.append((namespace, number))
        return {"image": torch.full((1, 2, 2, 2), float(number)), "case_id": str(number)}

    monkeypatch.setattr(stream, "make_case", grow)
    return made


def made_stream(seed: int = 0, **options: float) -> PhantomStream:
    return PhantomStream("small", "varied", [Prepare(), AddNoise()], MODALITIES, seed=seed, **options)


def take(phantoms: PhantomStream | Iterator, count: int) -> list[tuple[int, float]]:
    return [(int(s["case_id"]), s["noise"]) for s in islice(iter(phantoms), count)]


def test_each_phantom_yields_the_given_number_of_patches_on_average(grown):
    numbers = Counter(number for number, _ in take(made_stream(pool=4, patches_per_phantom=5), 1000))
    gone = [numbers[number] for number in range(4, len(grown) - 4)]
    assert sum(gone) / len(gone) == pytest.approx(5, abs=0.5)
    assert len(grown) == pytest.approx(1000 / 5 + 4, abs=1)


def test_no_phantom_is_made_twice(grown):
    take(made_stream(pool=3, patches_per_phantom=2), 100)
    assert [number for _, number in grown] == list(range(len(grown)))


def test_samples_come_from_the_most_recent_phantoms(grown):
    phantoms = made_stream(pool=3, patches_per_phantom=2)
    for number, _ in (take(phantoms, 1)[0] for _ in range(100)):
        assert phantoms.made - 3 <= number < phantoms.made


def test_one_patch_per_phantom_repeats_no_phantom(grown):
    assert [number for number, _ in take(made_stream(pool=1, patches_per_phantom=1), 20)] == list(range(20))


def test_every_use_makes_a_new_patch_and_the_seed_determines_all(grown):
    first = take(made_stream(pool=2, patches_per_phantom=4), 60)
    assert len(set(first)) == 60
    assert take(made_stream(pool=2, patches_per_phantom=4), 60) == first
    assert take(made_stream(seed=1, pool=2, patches_per_phantom=4), 60) != first


def test_a_phantom_is_prepared_once(grown):
    phantoms = made_stream(pool=2, patches_per_phantom=4)
    samples = list(islice(iter(phantoms), 20))
    assert phantoms.transform.transforms[0].calls == phantoms.made == len(grown)
    assert all(s["image"].unique().item() == int(s["case_id"]) + 0.5 for s in samples)


def test_a_restored_stream_continues_with_new_phantoms(grown):
    first = made_stream(pool=3, patches_per_phantom=2)
    before = take(first, 31)
    second = made_stream(pool=3, patches_per_phantom=2)
    second.load_state_dict(first.state_dict())
    after = take(second, 31)
    assert not {number for number, _ in before} & {number for number, _ in after}
    assert [number for _, number in grown] == list(range(len(grown)))
    assert second.state_dict() == {"made": len(grown), "drawn": 62}


def test_the_state_consists_of_two_numbers(grown):
    phantoms = made_stream()
    take(phantoms, 3)
    assert phantoms.state_dict() == {"made": 3, "drawn": 3}


def test_seeds_and_validation_share_no_phantom(grown):
    take(made_stream(seed=0), 2)
    take(made_stream(seed=1), 2)
    cases = PhantomCases(2, "small", "varied", [Prepare()], MODALITIES)
    cases.fill()
    assert len({namespace for namespace, _ in grown}) == 3


def test_validation_cases_are_made_once_and_stay_the_same(grown):
    cases = PhantomCases(3, "small", "varied", [Prepare()], MODALITIES)
    assert len(cases) == 3 and not grown
    cases.fill()
    for _ in range(2):
        assert [cases[i]["image"].unique().item() for i in range(3)] == [0.5, 1.5, 2.5]
    assert len(grown) == 3


def test_the_time_spent_making_phantoms_is_recorded(grown):
    phantoms = made_stream()
    assert phantoms.seconds_making == 0
    take(phantoms, 1)
    assert phantoms.seconds_making > 0


# --- real phantoms


def test_channels_are_the_requested_sequences():
    every = make_case("test", 0, "small", "cpu", "plain", MODALITIES)
    some = make_case("test", 0, "small", "cpu", "plain", ["flair", "t1"])
    assert every["image"].dtype == torch.float32 and every["label"].dtype == torch.uint8
    assert every["image"].shape[1:] == every["label"].shape[1:]
    assert set(every["label"].unique().tolist()) <= {0, 1, 2, 4}
    assert torch.equal(some["image"], every["image"][[0, 3]])


def test_number_namespace_and_setting_determine_the_case():
    def image(namespace: str = "test", number: int = 0, setting: str = "plain") -> torch.Tensor:
        return make_case(namespace, number, "small", "cpu", setting, ["t1"])["image"]

    first = image()
    assert torch.equal(image(), first)
    for other in (image(number=1), image(namespace="other"), image(setting="new-scanner")):
        assert other.shape != first.shape or not torch.equal(other, first)


@pytest.mark.parametrize(
    ("make", "subject", "found"),
    [
        (lambda: made_stream(pool=0), "pool", 0),
        (lambda: made_stream(pool=1.5), "pool", 1.5),
        (lambda: made_stream(patches_per_phantom=0.5), "patches_per_phantom", 0.5),
        (lambda: made_stream(healthy=1.5), "healthy", 1.5),
        (lambda: PhantomStream("huge", "varied", Compose([]), MODALITIES), "size", "huge"),
        (lambda: PhantomStream("small", "odd", Compose([]), MODALITIES), "setting", "odd"),
        (lambda: PhantomCases(0, "small", "varied", [], MODALITIES), "val_cases", 0),
        (lambda: PhantomCases(1, "huge", "varied", [], MODALITIES), "size", "huge"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable, subject: str, found: object):
    with pytest.raises(UsageError) as error:
        make()
    assert (error.value.subject, error.value.found) == (subject, found)
