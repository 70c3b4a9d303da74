"""Identical files under different names."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from brats3d.cases.duplicates import identical_files, signature
from brats3d.errors import DataError


def noise(seed: int, size: int = 300_000) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_only_identical_files_are_grouped(tmp_path: Path) -> None:
    a, b, c = (write(tmp_path / f"{name}.nii", noise(seed)) for name, seed in (("a", 0), ("b", 1), ("c", 0)))
    assert identical_files([a, b, c]) == [[a, c]]
    assert identical_files([]) == identical_files([a]) == []


def test_files_that_differ_outside_the_sampled_blocks_are_not_identical(tmp_path: Path) -> None:
    content = bytearray(noise(0, 2_000_000))
    a = write(tmp_path / "a.nii", content)
    content[300_000] ^= 1
    assert identical_files([a, write(tmp_path / "b.nii", content)]) == []


@pytest.mark.parametrize(("at", "seen"), [(3, True), (1_000_000, True), (300_000, False)])
def test_a_signature_covers_the_sampled_blocks_or_the_whole_file(tmp_path: Path, at: int, seen: bool) -> None:
    content = bytearray(noise(0, 2_000_000))
    a = write(tmp_path / "a.nii", content)
    content[at] ^= 1
    b = write(tmp_path / "b.nii", content)
    assert (signature(a) != signature(b)) is seen
    assert signature(a, whole=True) != signature(b, whole=True)
    packed = write(tmp_path / "b.nii.gz", gzip.compress(content, 1))
    assert signature(packed) == signature(packed, whole=True) == signature(b, whole=True)


def test_packed_files_are_compared_unpacked(tmp_path: Path) -> None:
    a = write(tmp_path / "a.nii.gz", gzip.compress(noise(0), 1, mtime=0))
    b = write(tmp_path / "b.nii.gz", gzip.compress(noise(0), 9, mtime=99))
    c = write(tmp_path / "c.nii.gz", gzip.compress(noise(1), mtime=0))
    assert identical_files([c, b, a]) == [[b, a]]


def test_links_to_one_file_are_identical(tmp_path: Path) -> None:
    a = write(tmp_path / "a.nii", b"")
    (tmp_path / "b.nii").symlink_to(a)
    assert identical_files([a, tmp_path / "b.nii"]) == [[a, tmp_path / "b.nii"]]


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        identical_files([tmp_path / "gone.nii"])
    assert error.value.subject == str(tmp_path / "gone.nii")
    damaged = [write(tmp_path / f"{name}.nii.gz", name.encode() + b"12345678") for name in "ab"]
    with pytest.raises(DataError) as error:
        identical_files(damaged)
    assert error.value.subject == f"{damaged[0]} or {damaged[1]}"


def test_a_file_and_its_packed_copy_are_identical(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.nii", noise(0))
    packed = write(tmp_path / "b.nii.gz", gzip.compress(noise(0)))
    other = write(tmp_path / "c.nii", noise(0)[:-1] + b"!")
    assert identical_files([plain, packed, other]) == [[plain, packed]]


def test_headers_that_are_equal_do_not_make_images_of_two_files_identical(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.hdr", b"header") for name in "abc"]
    for path, seed in zip(paths, (0, 1, 0), strict=True):
        write(path.with_suffix(".img"), noise(seed))
    assert identical_files(paths) == [[paths[0], paths[2]]]
