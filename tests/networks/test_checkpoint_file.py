"""Checkpoints are written whole, loaded without running code, and refused if they are damaged."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from brats3d.errors import DataError, NotFoundError
from brats3d.networks.checkpoint_file import read_checkpoint, save_checkpoint

CARD = {"modalities": ["t1"], "regions": ["TC", "WT", "ET"], "network_def": {}, "epoch": 7}


class Touch:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint of one tensor with its card."""
    save_checkpoint(tmp_path / "best.pt", {"weight": torch.arange(1000.0)}, CARD)
    return tmp_path / "best.pt"


def refusal(path: Path) -> DataError:
    with pytest.raises(DataError) as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)
    return error.value


def test_content_and_card_are_read_as_they_were_written(saved):
    content, card = read_checkpoint(saved)
    assert torch.equal(content["weight"], torch.arange(1000.0))
    assert card == CARD


def test_a_missing_file_and_a_missing_card_are_distinguished(saved):
    with pytest.raises(NotFoundError) as error:
        read_checkpoint(saved.with_name("none.pt"))
    assert "none.pt" in error.value.problem
    saved.with_suffix(".json").unlink()
    with pytest.raises(NotFoundError) as error:
        read_checkpoint(saved)
    assert "best.json" in error.value.problem


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, fraction):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(fraction * len(content))])
    assert refusal(saved).subject == str(saved)


def test_one_changed_byte_is_noticed(saved):
    content = bytearray(saved.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 1] ^= 1
    saved.write_bytes(content)
    assert torch.load(saved, weights_only=True), "torch itself does not notice it"
    assert "checksum" in refusal(saved).problem


@pytest.mark.parametrize(
    "content", [b"hello", b"PK\x03\x04", b"\x80\x02}.", bytes(5000)], ids=["text", "zip", "pickle", "zeros"]
)
def test_a_file_that_torch_did_not_write_is_refused(saved, content):
    saved.write_bytes(content)
    assert refusal(saved).subject == str(saved)


def test_a_list_of_values_is_refused(saved):
    torch.save([1, 2], saved)
    assert refusal(saved).found == "list"


def test_a_checkpoint_that_would_run_code_is_refused_and_does_not_run(saved, tmp_path):
    torch.save({"extra": Touch(tmp_path / "ran")}, saved)
    assert "io.open" in refusal(saved).problem
    assert not (tmp_path / "ran").exists()
    torch.load(saved, weights_only=False)["extra"].close()
    assert (tmp_path / "ran").exists(), "a plain load would have run it"


@pytest.mark.parametrize("text", ["{", "[]", "\xff"], ids=["truncated", "list", "not UTF-8"])
def test_a_damaged_card_is_refused(saved, text):
    saved.with_suffix(".json").write_bytes(text.encode("latin-1"))
    assert refusal(saved).subject == str(saved.with_suffix(".json"))


def test_a_kill_while_saving_leaves_the_old_checkpoint(saved, monkeypatch):
    def torn(content, file) -> None:
        buffer = io.BytesIO()
        save(content, buffer)
        file.write(buffer.getvalue()[:500])
        raise KeyboardInterrupt

    save, before = torch.save, saved.read_bytes()
    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved, {"weight": torch.zeros(1000)}, {**CARD, "epoch": 8})
    assert saved.read_bytes() == before
    assert json.loads(saved.with_suffix(".json").read_text())["epoch"] == 7
    assert sorted(path.name for path in saved.parent.iterdir()) == ["best.json", "best.pt"]
