"""Write segmentations: one NIfTI file per case, named after the case, in the case's own space.

The own space of a raw case is that of one of its scans. Its segmentation in BraTS space is written, too.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from ignite.engine import Engine, Events

from brats3d import __version__
from brats3d.cases import item_to_case, name_some, region_volumes_ml
from brats3d.errors import UsageError
from brats3d.evaluation import PROBABILITIES, BatchProbabilities
from brats3d.files import (
    PREDICTIONS_NAME,
    ChangedFileError,
    Failures,
    Header,
    Writer,
    WrittenFiles,
    first_line,
    image_files,
    read_header,
    remove_temporary,
    shard_file_name,
    writable_folder,
    write_json,
    write_segmentation,
)
from brats3d.inference.output_state import OutputState, compare_output, describe_input, other_images
from brats3d.inference.previews import Previews
from brats3d.inference.quality_stats import QualityStats
from brats3d.inference.segmentation_stats import describe_segmentation, describe_weights
from brats3d.labels import REGIONS_TO_READ, WITHOUT_T1CE, get_convention, order_modalities
from brats3d.networks import read_card
from brats3d.scans import BRATS_SPACE, RawScans, write_dicom_seg

logger = logging.getLogger("brats3d")


class SaveSegmentations:
    """Evaluator handler that writes ``<output_dir>/<case_id>.nii.gz`` for every case.

    ``<output_dir>/predictions.jsonl`` records each file, with a digest of everything that it was made from: weights,
    ``settings``, label convention, sequences, with ``stats`` the quality model of the weights, the versions of brats3d,
    MONAI and PyTorch, and the names, sizes, mtimes and contents of the input files. :meth:`prepare` compares it to find
    the cases that need not be segmented again.

    A segmentation that was changed since, or that brats3d did not write, is kept: its case is not written.

    Args:
        output_dir: folder to write to.
        convention: label convention of the predictions.
        modalities: the sequences that the network gets, in order.
        cases: the datalist items, with the files of each case.
        preview: also write ``<case_id>.png``, a picture of the slice with the most tumour.
        stats: also write ``<case_id>.json``, see :func:`brats3d.inference.describe_segmentation` and
            :class:`brats3d.inference.QualityStats`.
        probabilities: also write ``probabilities/<case_id>.npz``, see :mod:`brats3d.evaluation.probabilities`; those of
            a raw case are in BraTS space.
        checkpoint: the weights. With None (random weights), no case is ever skipped.
        settings: a text of all other settings that a segmentation depends on, see
            :func:`brats3d.config_reader.config_text`.
        failures: record the cases that cannot be saved, and those whose file belongs to other images; None = raise.
        raw_scans: the cases that were raw; None = there are none.
        shard: the part of the cases that the run segments, such as ``"3/8"``; its record is then
            ``predictions-3-of-8.jsonl``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        convention: str,
        modalities: Sequence[str],
        cases: Sequence[Mapping[str, Any]],
        preview: bool = False,
        stats: bool = False,
        probabilities: bool = False,
        checkpoint: str | Path | None = None,
        settings: str = "",
        failures: Failures | None = None,
        shard: str | None = None,
        raw_scans: RawScans | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.convention = get_convention(convention)
        self.modalities = order_modalities(modalities)
        self.images = {case.case_id: case.images for case in map(item_to_case, cases)}
        self.preview = preview
        self.stats = stats
        self.checkpoint = checkpoint
        self.settings = settings
        self.failures = failures
        self.shard = shard
        self.raw_scans = raw_scans
        self.saved: set[str] = set()
        self._weights: dict[str, Any] | None = None
        self._files: WrittenFiles | None = None
        self._state = OutputState()
        self._sources: dict[str, dict[str, Any]] = {}
        self._made_from: dict[str, str] = {}
        self.probabilities = probabilities
        self._batch = BatchProbabilities() if probabilities or stats else None
        self._quality: QualityStats | None = None
        self._previews = Previews(self.images, self.modalities, self.convention)

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self._started)
        if self._batch is not None:
            self._batch.attach(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    @property
    def kept(self) -> set[str]:
        """Cases that are not written, because their segmentation was changed or not written by brats3d."""
        return self._state.kept

    def prepare(self, skip_done: bool = False) -> set[str]:
        """Create the folder and check its files. Called at the start of the evaluator unless it was called before.

        Args:
            skip_done: find the cases that need not be segmented again; else only :attr:`kept` ones are skipped.

        Returns:
            The cases to skip: their files are unchanged and were made from the same input, weights and settings, or
            they must be kept.

        Raises:
            NotFoundError: if the weights do not exist.
            UsageError: if the folder cannot be written; if a file to be replaced that is not a segmentation was not
                written by brats3d or was changed since; if the folder holds a segmentation of every case and brats3d
                never wrote to it; or if other images have the name of a case and ``failures`` is None.
        """
        names = {case_id: self._names(case_id) for case_id in self.images}
        folders = {self.output_dir} | {(self.output_dir / name).parent for each in names.values() for name in each}
        for folder in sorted(folders):
            writable_folder(folder)
        files = WrittenFiles(self.output_dir, shard_file_name(PREDICTIONS_NAME, self.shard))
        self._weights = describe_weights(self.checkpoint)
        self._quality = QualityStats(self.checkpoint, self.convention) if self.stats else None
        self._sources = self._inputs()
        self._made_from = self._digests()
        self._state = compare_output(files, names, self._sources, self._made_from if skip_done else {})
        for case_id, problem in self._state.taken.items():
            if self.failures is None:
                raise UsageError("output_dir", f"{case_id}: {problem}")
            self.failures.add(case_id, problem, next(iter(self.images[case_id].values())).parent)
        if self.kept:
            self._warn_of_kept(self.kept)
        if self._state.replaced:
            logger.warning(
                "%s: all images have changed since the segmentation in %s was written, and it is replaced; use a "
                "separate --output_dir for each patient whose images are copied to the same folder",
                name_some(sorted(self._state.replaced)),
                self.output_dir,
            )
        left = self.images.keys() - self._state.cases
        for folder in folders:
            remove_temporary(folder, {Path(name).name for case_id in left for name in names[case_id]})
        self._files = files
        return self._state.done | self.kept

    def _started(self, engine: Engine) -> None:
        if self._files is None:
            self.prepare()
        if "t1ce" not in self.modalities:
            logger.warning("the sequences are %s: %s", ", ".join(self.modalities), WITHOUT_T1CE)

    def __call__(self, engine: Engine) -> None:
        """Write the cases of the batch; ``pred`` holds labels (1, H, W, D) in the orientation of the input."""
        for item, out in zip(engine.state.batch, engine.state.output, strict=True):
            case_id = item["case_id"]
            if case_id in self._state.cases:
                continue
            with self.failures.catch(case_id) if self.failures is not None else nullcontext():
                self._save(case_id, torch.as_tensor(out["pred"]).cpu().numpy()[0])

    def _save(self, case_id: str, label: np.ndarray) -> None:
        assert self._files is not None  # prepare() was called
        made_from, source = self._made_from.get(case_id, ""), self._sources.get(case_id)
        write = partial(self._files.write, made_from=made_from, source=source)
        path = self.output_dir / f"{case_id}.nii.gz"
        # Another run may have written the file since this one started.
        if path.is_file() and (problem := other_images(WrittenFiles(self.output_dir), path.name, source)):
            raise UsageError("output_dir", problem)
        try:
            native, header = self._write(case_id, label, write)
        except ChangedFileError:  # somebody has corrected the earlier one since the run started
            self.kept.add(case_id)
            self._warn_of_kept([case_id])
            return
        if self.preview:
            self._draw(case_id, label, write)
        image = next(iter(self.images[case_id].values()))
        if self.probabilities and self._batch is not None:
            self._batch.write(case_id, image, self.output_dir, write)
        if self._quality is not None and self._batch is not None:
            stats = self._describe(case_id, native, header)
            self._quality.add(stats, self._batch, image, label)
            write_json(self.output_dir / f"{case_id}.json", stats, write)
        volumes = region_volumes_ml(native, self.convention, header.voxel_ml)
        logger.info("%s  %s", path, "  ".join(f"{region} {volumes[region]:.1f} ml" for region in REGIONS_TO_READ))
        self._write_dicom_seg(case_id, native, header, write)
        self.saved.add(case_id)

    def _write(self, case_id: str, label: np.ndarray, write: Writer) -> tuple[np.ndarray, Header]:
        """Write the segmentation; that of a raw case in both spaces.

        Returns:
            The segmentation in the case's own space, and its header.
        """
        name, like = self.convention.name, read_header(next(iter(self.images[case_id].values())))
        path = self.output_dir / f"{case_id}.nii.gz"
        if self.raw_scans is None or case_id not in self.raw_scans:
            write_segmentation(path, label, like, name, write)
            return label, like
        native, header = self.raw_scans.to_native(case_id, label, self.convention)
        write_segmentation(path, native, header, name, write)
        write_segmentation(self.output_dir / BRATS_SPACE / path.name, label, like, name, write)
        return native, header

    def _draw(self, case_id: str, label: np.ndarray, write: Writer) -> None:
        try:
            self._previews.draw(self.output_dir / f"{case_id}.png", case_id, label, write)
        except OSError:  # such as a full disk
            raise
        except Exception as error:  # the segmentation is written; it does not fail for a picture
            logger.warning("%s: no preview: %s", case_id, first_line(error))

    def _write_dicom_seg(self, case_id: str, label: np.ndarray, header: Header, write: Writer) -> None:
        """Write the segmentation of a DICOM series as DICOM SEG: last, since not every series can be referred to."""
        if self.raw_scans is not None and (files := self.raw_scans.dicom_files(case_id)):
            path = self.output_dir / f"{case_id}.seg.dcm"
            weights = {"weights": self._weights["sha256"]} if self._weights else {}
            write_dicom_seg(path, label, header.affine, files, self.convention.name, weights, write)

    def _names(self, case_id: str) -> list[str]:
        """Return the names of the files to write for a case, relative to the output folder."""
        suffixes = [".nii.gz", *([".png"] if self.preview else []), *([".json"] if self.stats else [])]
        names = [case_id + suffix for suffix in suffixes]
        names += [f"{PROBABILITIES}/{case_id}.npz"] if self.probabilities else []
        if self.raw_scans is not None and case_id in self.raw_scans:
            names.append(f"{BRATS_SPACE}/{case_id}.nii.gz")
            names += [f"{case_id}.seg.dcm"] if self.raw_scans.dicom_files(case_id) else []
        return names

    def _warn_of_kept(self, case_ids: Iterable[str]) -> None:
        logger.warning(
            "%s: not segmented, because the files in %s were changed, or were not written by brats3d, and are kept; to "
            "segment these cases again, move their files away or choose another --output_dir",
            name_some(sorted(case_ids)),
            self.output_dir,
        )

    def _inputs(self) -> dict[str, dict[str, Any]]:
        """Return the folder and the digests of the images of each case.

        Cases whose files cannot be read are omitted; loading them reports the reason.
        """
        inputs = {}
        for case_id, images in self.images.items():
            with suppress(OSError, ValueError):
                inputs[case_id] = describe_input(images)
        return inputs

    def _digests(self) -> dict[str, str]:
        """Return a digest, for each readable case, of everything that its segmentation depends on."""
        if self._weights is None:
            return {}
        versions = [__version__, monai.__version__, torch.__version__]
        common = [*versions, self._weights["sha256"], self.settings, self.convention.name, *self.modalities]
        common += [read_card(self.checkpoint).get("quality")] if self.stats and self.checkpoint is not None else []
        digests = {}
        for case_id, source in self._sources.items():
            with suppress(OSError):
                parts = [part for path in self.images[case_id].values() for part in image_files(path)]
                files = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
                content = [common, files, source["images"]]
                digests[case_id] = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]
        return digests

    def _describe(self, case_id: str, label: np.ndarray, header: Header) -> dict[str, Any]:
        images = self.images[case_id]
        present = [m for m in self.modalities if m in images or len(images) == len(self.modalities)]
        return {
            "case_id": case_id,
            "sequences": present,
            "absent_sequences": [m for m in self.modalities if m not in present],
            "weights": self._weights,
            **describe_segmentation(label, self.convention, header),
        }
