"""Equal files under different names."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from brats3d.cases.duplicates import identical_files, signature


def noise(seed: int, size: int = 300_000) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_equal_files_are_grouped_and_others_left_out(tmp_path: Path) -> None:
    a, b, c = (write(tmp_path / f"{name}.nii", noise(seed)) for name, seed in (("a", 0), ("b", 1), ("c", 0)))
    assert identical_files([a, b, c]) == [[a, c]]
    assert identical_files([]) == identical_files([a]) == []


def test_files_that_differ_only_between_the_sampled_blocks_are_told_apart(tmp_path: Path) -> None:
    content = bytearray(noise(0, 2_000_000))
    a = write(tmp_path / "a.nii", content)
    content[300_000] ^= 1
    assert identical_files([a, write(tmp_path / "b.nii", content)]) == []


@pytest.mark.parametrize(("at", "seen"), [(3, True), (1_000_000, True), (300_000, False)])
def test_a_signature_is_of_the_header_and_blocks_or_of_the_whole(tmp_path: Path, at: int, seen: bool) -> None:
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


def test_links_to_one_file_are_equal(tmp_path: Path) -> None:
    a = write(tmp_path / "a.nii", b"")
    (tmp_path / "b.nii").symlink_to(a)
    assert identical_files([a, tmp_path / "b.nii"]) == [[a, tmp_path / "b.nii"]]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone.nii: cannot be read"):
        identical_files([tmp_path / "gone.nii"])
    damaged = [write(tmp_path / f"{name}.nii.gz", name.encode() + b"12345678") for name in "ab"]
    with pytest.raises(ValueError, match=r"a.nii.gz or .*b.nii.gz: cannot be read"):
        identical_files(damaged)


def test_a_file_and_its_packed_copy_are_identical(tmp_path):
    content = bytes(range(256)) * 1000
    plain, packed, other = tmp_path / "a.nii", tmp_path / "b.nii.gz", tmp_path / "c.nii"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    other.write_bytes(content[:-1] + b"!")
    assert identical_files([plain, packed, other]) == [[plain, packed]]
