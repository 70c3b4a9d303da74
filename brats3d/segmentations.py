"""Segmentations on disk: one NIfTI a case, named by the case, in the case's own space."""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose, Invertd

from brats3d import __version__
from brats3d.bounded import read_json
from brats3d.case_stats import describe_segmentation, describe_weights
from brats3d.cases import find_cases
from brats3d.checks import check_labels, whole_labels
from brats3d.datalist import item_to_case
from brats3d.failures import Failures
from brats3d.files import remove_temporary, writable_folder, write_json, write_whole
from brats3d.fingerprint import digest, fingerprint
from brats3d.labels import REGIONS_TO_READ, get_convention, order_modalities
from brats3d.predictions import RECORDS_NAME, Predictions
from brats3d.shards import share_name
from brats3d.transforms import labels_to_regions
from brats3d.volumes import Header, read_header, read_volume, to_lps

__all__ = ["MARK", "SaveSegmentations", "marked_convention", "prepare_output", "write_segmentation"]

logger = logging.getLogger("brats3d")

MARK = "brats3d segmentation"
"""How the header of a segmentation of ours begins; the name of the label convention follows."""


def write_segmentation(path: str | Path, label: np.ndarray, like: str | Path, convention: str = "") -> Path:
    """Write a label volume with the geometry of another file: same shape, affine, orientation and space codes.

    Args:
        path: of the ``.nii.gz``.
        label: integer voxel values, shape (H, W, D).
        like: the NIfTI file that gives the geometry; its voxels are not read.
        convention: what the values mean, which the header then says.

    Returns:
        The path.

    Raises:
        ValueError: if the shapes differ.
    """
    reference = nib.load(like)
    if label.shape != reference.shape:
        raise ValueError(f"{path}: expected the shape of {like}, {reference.shape}, got {label.shape}")
    header = reference.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0
    mark = f"{MARK}, {convention}" if convention else MARK
    header["descrip"], header["aux_file"] = mark.encode(), b""  # free text of the input, which may name a patient
    header.extensions.clear()
    image = nib.Nifti1Image(np.ascontiguousarray(label, dtype=np.uint8), reference.affine, header)
    # Level 1 writes labels ten times faster than level 9 and a few kB larger; mtime 0 makes equal input equal bytes.
    return write_whole(path, lambda file: file.write(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)))


def marked_convention(path: Path) -> str | None:
    """The label convention that brats3d has written into a segmentation's header; None where there is none."""
    text = bytes(read_header(path).nifti["descrip"].item()).decode("ascii", "replace")
    match = re.fullmatch(rf"{MARK}, ([\w-]+)", text.rstrip("\0 "))
    return match[1] if match else None


class SaveSegmentations:
    """Handler of the evaluator: writes ``<output_dir>/<case_id>.nii.gz`` for every case that went through it.

    With a checkpoint, ``<output_dir>/predictions.jsonl`` records what each case was made from: a digest of the weights'
    SHA-256, the label convention, the sequences, ``made_with``, brats3d's version, and its input's names, sizes and
    mtimes. By that :meth:`done` knows which cases need not be made again.

    Args:
        output_dir: where the files go.
        convention: of the labels that the predictions hold.
        modalities: the sequences the network was given, in order.
        cases: the datalist items; they tell where each case's files lie.
        preview: also write ``<case_id>.png``, a picture of the slice with the most tumour.
        stats: also write ``<case_id>.json``, what :func:`brats3d.case_stats.describe_segmentation` says.
        checkpoint: the weights, named in the stats.
        made_with: whatever else a segmentation depends on: transforms, an inferer, numbers; not used yet.
        failures: take the cases that cannot be saved; None raises.
        shard: which share of the cases the run has, such as ``"3/8"``: it records in ``predictions-3-of-8.jsonl``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        convention: str,
        modalities: Sequence[str],
        cases: Sequence[Mapping[str, Any]],
        preview: bool = False,
        stats: bool = False,
        checkpoint: str | Path | None = None,
        made_with: Sequence[Any] = (),
        failures: Failures | None = None,
        shard: str | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.convention = get_convention(convention)
        self.modalities = order_modalities(modalities)
        self.images = {case.case_id: case.images for case in map(item_to_case, cases)}
        self.preview = preview
        self.stats = stats
        self.checkpoint = checkpoint
        self.made_with = made_with
        self.failures = failures
        self.shard = shard
        self.saved: set[str] = set()
        self._weights: dict[str, Any] | None = None
        self._predictions: Predictions | None = None
        self._made_from: dict[str, str] = {}

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def prepare(self) -> None:
        """Make the folder, and note what each case is about to be made from; at the engine's start if not before.

        Raises:
            FileNotFoundError: if there are no such weights.
            ValueError: if the folder cannot be written, or a file there would be replaced that is not ours.
        """
        if self._predictions is not None:
            return
        predictions = Predictions(self.output_dir, share_name(RECORDS_NAME, self.shard))
        written = predictions.names
        prepare_output(self.output_dir, self.images, written)
        for case_id in self.images if self.stats else ():
            _refuse_foreign_stats(self.output_dir / f"{case_id}.json", written)
        remove_temporary(self.output_dir, {name for case_id in self.images for name in self._names(case_id)})
        self._weights = describe_weights(self.checkpoint)
        self._made_from = self._sources()
        self._predictions = predictions

    def done(self) -> set[str]:
        """The cases whose files are whole, byte for byte, and are what this run would make from the same."""
        self.prepare()
        assert self._predictions is not None
        return {
            case_id
            for case_id, made_from in self._made_from.items()
            if self._predictions.is_done(case_id, made_from, self._names(case_id))
        }

    def _started(self, engine: Engine) -> None:
        self.prepare()
        if "t1ce" not in self.modalities:
            logger.warning(
                "no t1ce among the sequences %s: enhancing tumour cannot be told from the rest of the core, "
                "ET is a guess",
                ", ".join(self.modalities),
            )

    def __call__(self, engine: Engine) -> None:
        """Write the batch's cases; pred is labels (1, H, W, D) in the input's own orientation."""
        for item, out in zip(engine.state.batch, engine.state.output, strict=True):
            case_id = item["case_id"]
            with self.failures.of(case_id) if self.failures is not None else nullcontext():
                self._save(case_id, torch.as_tensor(out["pred"]).cpu().numpy()[0])

    def _save(self, case_id: str, label: np.ndarray) -> None:
        like = next(iter(self.images[case_id].values()))
        path = write_segmentation(self.output_dir / f"{case_id}.nii.gz", label, like, self.convention.name)
        header = read_header(like)
        volumes = _volumes_ml(label, self.convention.regions, header.voxel_ml)
        if self.preview:
            self._draw(case_id, label)
        if self.stats:
            self._describe(case_id, label, header)
        if self._predictions is not None and case_id in self._made_from:
            self._predictions.add(case_id, self._made_from[case_id], self._names(case_id))
        self.saved.add(case_id)
        logger.info("%s  %s", path, "  ".join(f"{r} {volumes[r]:.1f} ml" for r in REGIONS_TO_READ))

    def _names(self, case_id: str) -> list[str]:
        """The files of a case that are asked for."""
        suffixes = [".nii.gz", *([".png"] if self.preview else []), *([".json"] if self.stats else [])]
        return [case_id + suffix for suffix in suffixes]

    def _sources(self) -> dict[str, str]:
        """What each case is made from; those that cannot be told are left out, and so made at every run."""
        if self._weights is None:
            return {}
        try:
            common = [
                fingerprint([_parameters(part) for part in self.made_with]),
                self._weights["sha256"],
                self.convention.name,
            ]
        except (ValueError, TypeError, RuntimeError) as error:
            logger.info("a restart will do every case again: %s", error)
            return {}
        common += [__version__, *self.modalities]
        found = {}
        for case_id, images in self.images.items():
            try:
                files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in images.values()]
            except OSError:  # whoever reads it says why
                continue
            found[case_id] = digest(*common, repr(files))
        return found

    def _describe(self, case_id: str, label: np.ndarray, header: Header) -> None:
        images = self.images[case_id]
        present = [m for m in self.modalities if m in images or len(images) == len(self.modalities)]
        said = {
            "case_id": case_id,
            "sequences": present,
            "absent_sequences": [m for m in self.modalities if m not in present],
            "weights": self._weights,
            **describe_segmentation(label, self.convention, header),
        }
        write_json(self.output_dir / f"{case_id}.json", said)

    def _draw(self, case_id: str, label: np.ndarray) -> None:
        from brats3d.pictures import save_preview

        images = self.images[case_id]
        names = self.modalities if len(images) == len(self.modalities) else tuple(images)
        files = [nib.load(path) for path in images.values()]
        image = np.stack([to_lps(np.asanyarray(file.dataobj), file.affine) for file in files])
        pred = torch.from_numpy(to_lps(label, files[0].affine))[None]
        regions = labels_to_regions(pred, self.convention).numpy()
        ref = self._reference(case_id, image.shape[1:])
        save_preview(self.output_dir / f"{case_id}.png", image, names, regions, ref, title=case_id)

    def _reference(self, case_id: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Regions of the segmentation beside the case, if there is one that fits it; a picture is worth no error."""
        try:
            folder = next(iter(self.images[case_id].values())).parent
            found = find_cases(folder, self.modalities, absent_sequences=True)
            path = next(case.label for case in found if case.case_id == case_id and case.label)
            volume = read_volume(path)
            label = to_lps(volume.values, volume.header.affine)
            check_labels(label, self.convention, str(path))
            label = whole_labels(label)
        except (StopIteration, ValueError, OSError):
            return None
        return (
            labels_to_regions(torch.from_numpy(label)[None], self.convention).numpy() if label.shape == shape else None
        )


def prepare_output(folder: Path, case_ids: Iterable[str], written: Collection[str] = ()) -> None:
    """Make the folder for segmentations of these cases, none of which may replace a file that is not ours.

    Args:
        folder: made if it is missing.
        case_ids: whose segmentations are to come.
        written: names of files that brats3d has written there; of these, what is too damaged to say whose it is may be
            replaced.

    Raises:
        ValueError: naming the folder that cannot be written, or the file.
    """
    writable_folder(folder)
    for case_id in case_ids:
        _refuse_foreign(folder / f"{case_id}.nii.gz", written)


def _refuse_foreign(path: Path, written: Collection[str]) -> None:
    """An image or an expert's segmentation may lie under the very name that ours would have: it is not replaced."""
    if not path.exists():
        return
    try:
        ours = bytes(read_header(path).nifti["descrip"].item()).startswith(MARK.encode())
    except (OSError, ValueError):
        ours = path.name in written and _is_damaged_gzip(path)
    if not ours:
        raise ValueError(
            f"output_dir: {path} is there, and brats3d has not written it; expected no file, or an earlier "
            "segmentation of brats3d; name another --output_dir"
        )


def _is_damaged_gzip(path: Path) -> bool:
    """Whether it begins as a gzip file does, as far as it goes, and cannot be unpacked."""
    try:
        content = path.read_bytes()
        if content[:2] != b"\x1f\x8b"[: len(content)]:
            return False
        gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return True
    return not content


def _refuse_foreign_stats(path: Path, written: Collection[str]) -> None:
    if not path.exists():
        return
    try:
        ours = {"brats3d", "label_convention"} <= read_json(path).keys()
    except (OSError, AttributeError):
        ours = False
    except ValueError:  # no JSON any more, or never
        ours = path.name in written
    if not ours:
        raise ValueError(f"output_dir: {path} is there, and brats3d has not written it; name another --output_dir")


def _parameters(part: Any) -> Any:
    """What :func:`brats3d.fingerprint.fingerprint` is given for a part of the pipeline.

    A ``Compose`` is its transforms; its random state, which is never used, has no text. ``Invertd`` has none either: it
    holds a lambda, and turns back what the preprocessing turned.
    """
    return [t for t in part.transforms if not isinstance(t, Invertd)] if isinstance(part, Compose) else part


def _volumes_ml(label: np.ndarray, regions: Mapping[str, tuple[int, ...]], voxel_ml: float) -> dict[str, float]:
    return {region: float(np.isin(label, values).sum()) * voxel_ml for region, values in regions.items()}
