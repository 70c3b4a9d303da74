"""Segmentations on disk: one NIfTI a case, named by the case, in the case's own space."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose, Invertd

from brats3d import __version__
from brats3d.cases import check_labels, find_cases, item_to_case, region_volumes_ml, whole_labels
from brats3d.data import digest, fingerprint, labels_to_regions
from brats3d.files import (
    Failures,
    Header,
    prepare_output,
    read_header,
    read_volume,
    refuse_foreign_stats,
    remove_temporary,
    share_name,
    to_lps,
    write_json,
    write_segmentation,
)
from brats3d.inference.records import RECORDS_NAME, Predictions
from brats3d.inference.statistics import describe_segmentation, describe_weights
from brats3d.labels import REGIONS_TO_READ, get_convention, order_modalities

logger = logging.getLogger("brats3d")


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
        stats: also write ``<case_id>.json``, what :func:`brats3d.inference.describe_segmentation` says.
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
            refuse_foreign_stats(self.output_dir / f"{case_id}.json", written)
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
        volumes = region_volumes_ml(label, self.convention, header.voxel_ml)
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
        from brats3d.files import save_preview

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


def _parameters(part: Any) -> Any:
    """What :func:`brats3d.data.fingerprint` is given for a part of the pipeline.

    A ``Compose`` is its transforms; its random state, which is never used, has no text. ``Invertd`` has none either: it
    holds a lambda, and turns back what the preprocessing turned.
    """
    return [t for t in part.transforms if not isinstance(t, Invertd)] if isinstance(part, Compose) else part
