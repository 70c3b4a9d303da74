"""The walk through the folders of a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats3d.errors import DataError
from brats3d.files import walk_folders


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def walked(root: Path, **options) -> dict[str, list[str]]:
    return {str(Path(folder).relative_to(root)): sorted(files) for folder, files in walk_folders(root, **options)}


def test_folders_are_visited_in_order_without_hidden_files(tmp_path):
    touch(tmp_path, "z.txt", "b/x", "a/y", "a/.hidden", ".git/x", "__MACOSX/x", "lost+found/x")
    assert walked(tmp_path) == {".": ["z.txt"], "a": ["y"], "b": ["x"]}
    assert list(walked(tmp_path)) == [".", "a", "b"]


def test_links_are_followed_once_and_circles_end(tmp_path):
    touch(tmp_path, "data/real/x", "elsewhere/y")
    data = tmp_path / "data"
    (data / "away").symlink_to(tmp_path / "elsewhere")
    (data / "circle").symlink_to(data)
    (data / "again").symlink_to(data / "real")
    (data / "self").symlink_to(data / "self")
    assert walked(data) == {".": ["self"], "real": ["x"], "away": ["y"]}
    assert walked(data / "real", seen={str(data / "real")}) == {}


def test_a_folder_named_like_a_nifti_file_stands_for_the_files_in_it(tmp_path):
    touch(tmp_path, "a_t1.nii/inner.nii.gz", "a_t1.nii/readme.txt")
    ((_, files),) = walk_folders(tmp_path)
    assert files == {"a_t1.nii": [str(tmp_path / "a_t1.nii" / "inner.nii.gz")]}


def test_depth_and_number_of_folders_are_limited(tmp_path, monkeypatch):
    touch(tmp_path, "1/2/3/x")
    assert list(walked(tmp_path, max_depth=2)) == [".", "1", "1/2"]
    monkeypatch.setattr("brats3d.files.walk.MAX_FOLDERS", 3)
    with pytest.raises(DataError) as error:
        walked(tmp_path)
    assert error.value.subject == str(tmp_path)


def test_an_unreadable_folder_is_an_error_or_skipped(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)  # root may list anything
    with pytest.raises(DataError) as error:
        walked(tmp_path)
    assert error.value.subject == str(tmp_path)
    assert walked(tmp_path, skip_unreadable=True) == {".": []}
