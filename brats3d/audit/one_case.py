"""The audit of one case, which reads, checks and releases one file after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from brats3d.audit.check_headers import header_findings
from brats3d.audit.check_images import fingerprint, image_findings, is_background, open_background
from brats3d.audit.check_labels import label_findings
from brats3d.audit.finding_kinds import Finding, make_finding
from brats3d.cases import (
    MIN_LABELLED_FRACTION,
    Case,
    ImageFacts,
    LabelledVoxels,
    LabelSummary,
    check_extent,
    image_doubts,
    labelled_voxels,
    region_volumes_ml,
    summarise_labels,
)
from brats3d.files import Header, Volume, read_volume
from brats3d.labels import get_convention


@dataclass(frozen=True)
class CaseRecord:
    """The results of auditing a case, without its volumes: a few hundred bytes.

    Args:
        case: the case.
        findings: those in its files.
        fingerprints: modality -> fingerprint, for each readable image.
        label: the fingerprint of the segmentation; None if there is none or it cannot be read.
        shape: of the volumes; None if none can be read.
        spacing_mm: of the voxels.
        labels: a summary of the segmentation; None if there is none or it holds no labels.
        volume_ml: region -> volume; empty without a segmentation that follows the label convention.
    """

    case: Case
    findings: tuple[Finding, ...]
    fingerprints: Mapping[str, tuple[object, ...]] = field(default_factory=dict, hash=False)
    label: tuple[object, ...] | None = None
    shape: tuple[int, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    labels: LabelSummary | None = None
    volume_ml: Mapping[str, float] = field(default_factory=dict, hash=False)


def audit_case(case: Case) -> CaseRecord:
    """Read and check every file of a case.

    Images are read a second time if labels are on their background. An unexpected error becomes a finding about the
    file, so that the audit continues.

    Args:
        case: complete or not, with the label convention of its segmentation if that is known.
    """
    reader = _CaseReader(case)
    try:
        return reader.read_all()
    except Exception as error:  # including MemoryError
        problem = f"cannot be checked: {type(error).__name__}: {error}; expected a NIfTI volume"
        reader.findings.append(make_finding("unreadable file", case.case_id, reader.file, problem))
        return CaseRecord(case, tuple(reader.findings))


class _CaseReader:
    """Reads the files of a case one after the other; ``file`` is the last one that was opened."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.convention = get_convention(case.convention) if case.convention else None
        self.file: Path | None = None
        self.headers: list[Header] = []
        self.findings: list[Finding] = []
        self.fingerprints: dict[str, tuple[object, ...]] = {}
        self.facts: dict[str, ImageFacts] = {}
        self.brain = 0.0  # fraction of the volume, measured only if much of it is labelled

    def read_all(self) -> CaseRecord:
        case = self.case
        # The segmentation comes first: the images are then checked at its labelled voxels.
        voxels, volume_ml = self._read_label(case.label) if case.label else (None, {})
        outside = np.ones(voxels.where.size if voxels else 0, bool)
        for modality, path in case.images.items():
            outside &= self._read_image(modality, path, voxels)
        self._doubt_images()
        if voxels and case.images and outside.any():
            images = (read_volume(path).values for path in case.images.values())
            outside &= open_background(images).reshape(-1, order="F")[voxels.where]
        if voxels and case.label:
            try:
                check_extent(voxels.where.size / math.prod(voxels.shape), self.brain, str(case.label))
            except ValueError as error:
                self.findings.append(make_finding("labelled brain", case.case_id, case.label, error))
        if case.images and outside.any():
            problem = f"{np.count_nonzero(outside):,} labelled voxels are outside the brain in every image"
            self.findings.append(make_finding("labels outside the brain", case.case_id, case.label, problem))
        headers = self.headers
        return CaseRecord(
            case,
            (*(header_findings(case.case_id, headers) if headers else ()), *self.findings),
            self.fingerprints,
            voxels.fingerprint() if voxels else None,
            headers[0].shape if headers else None,
            headers[0].spacing_mm if headers else None,
            summarise_labels(voxels) if voxels else None,
            volume_ml,
        )

    def _read_label(self, path: Path) -> tuple[LabelledVoxels | None, dict[str, float]]:
        """Return the labelled voxels, and the volume of each region in ml if the labels have no error."""
        volume = self._read(path)
        if volume is None:
            return None, {}
        voxels = labelled_voxels(volume.values)
        findings = label_findings(self.case.case_id, path, voxels, self.convention)
        self.findings += findings
        if self.convention is None or any(finding.severity == "error" for finding in findings):
            return voxels, {}
        return voxels, region_volumes_ml(voxels.values, self.convention, volume.header.voxel_ml)

    def _read_image(self, modality: str, path: Path, voxels: LabelledVoxels | None) -> np.ndarray | bool:
        """Return which of the labelled voxels are on the background; False if the image cannot be read."""
        volume = self._read(path)
        if volume is None:
            return False
        self.fingerprints[modality] = fingerprint(volume.values)
        findings, self.facts[modality] = image_findings(
            self.case.case_id, path, volume.values, volume.header.spacing_mm
        )
        self.findings += findings
        if voxels is None or volume.values.shape != voxels.shape:
            return False
        if voxels.where.size > MIN_LABELLED_FRACTION * volume.values.size:
            self.brain = max(self.brain, float(np.mean(volume.values > 0)))
        return is_background(volume.values, voxels.where)

    def _doubt_images(self) -> None:
        """Add the findings about the anatomy, and about sequences that are copies with other intensities."""
        for doubt in image_doubts(self.facts):
            if doubt.kind in ("background", "empty sequence"):  # found by image_findings
                continue
            if len({self.fingerprints[name] for name in doubt.names}) < len(doubt.names):  # found by copy_findings
                continue
            path = self.case.images[doubt.names[-1]]
            problem = doubt.problem if len(doubt.names) == 1 else f"{' and '.join(doubt.names)}: {doubt.problem}"
            self.findings.append(make_finding(doubt.kind, self.case.case_id, path, problem))

    def _read(self, path: Path) -> Volume | None:
        """Return a file's content; add a finding and return None if it cannot be read."""
        self.file = path
        try:
            volume = read_volume(path)
        except ValueError as error:
            self.findings.append(make_finding("unreadable file", self.case.case_id, path, error))
            return None
        self.headers.append(volume.header)
        return volume
