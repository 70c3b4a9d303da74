"""The audit of one case: its files are read one after the other, and little is kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from brats3d.audit.findings import Finding, make_finding
from brats3d.audit.header_checks import find_in_headers
from brats3d.audit.image_checks import find_in_image, fingerprint, is_background, open_background
from brats3d.audit.label_checks import find_in_label
from brats3d.cases import Case, LabelledVoxels, labelled_voxels
from brats3d.files import Header, Volume, read_volume
from brats3d.labels import get_convention


@dataclass(frozen=True)
class CaseRecord:
    """What is kept of a case that has been read: some hundred bytes.

    Args:
        case: whose.
        findings: in its files.
        images: modality -> the file and its fingerprint, for those that can be read.
        label: the segmentation's fingerprint; None if there is none or it cannot be read.
        n_bytes: of all files that can be read, as they lie on the disk.
        shape: of the volumes; None if none can be read.
        spacing_mm: of the voxels.
        labels: where no convention is known, the first few values in the segmentation, 0 left out.
        volume_ml: region -> its volume; empty if there is no segmentation or its labels are not the convention's.
    """

    case: Case
    findings: tuple[Finding, ...]
    images: Mapping[str, tuple[Path, tuple[object, ...]]] = field(hash=False)
    label: tuple[object, ...] | None
    n_bytes: int
    shape: tuple[int, ...] | None
    spacing_mm: tuple[float, ...] | None
    labels: tuple[float, ...]
    volume_ml: Mapping[str, float] = field(hash=False)


def audit_case(case: Case, label_convention: str | None = None) -> CaseRecord:
    """Read every file of a case once; the images again where labels lie on their background.

    Nothing that a file holds ends the audit: what is not foreseen is a finding of that file.

    Args:
        case: whole or not.
        label_convention: what the labels mean; None: what the case's names say.
    """
    reading = _Reading(case)
    try:
        return _audit(reading, label_convention or case.convention)
    except Exception as error:  # MemoryError is one
        what = f"cannot be looked at: {type(error).__name__}: {' '.join(str(error).split())}; expected a NIfTI volume"
        found = (*reading.findings, make_finding("unreadable", case.case_id, reading.at, what))
        return CaseRecord(case, found, {}, None, 0, None, None, (), {})


def _audit(reading: _Reading, name: str | None) -> CaseRecord:
    case = reading.case
    # The segmentation comes first: the images are then looked at where the labels are.
    voxels, volume_ml = reading.label(case.label, name) if case.label else (None, {})
    outside = np.ones(voxels.where.size if voxels else 0, bool)
    for modality, path in case.images.items():
        outside &= reading.image(modality, path, voxels)
    if voxels and case.images and outside.any():
        again = (read_volume(path).values for path in case.images.values())
        outside &= open_background(again).reshape(-1, order="F")[voxels.where]
        if outside.any():
            what = f"{np.count_nonzero(outside):,} labelled voxels lie outside the brain of every image; expected none"
            reading.findings.append(make_finding("labels outside the brain", case.case_id, case.label, what))
    headers = reading.headers
    return CaseRecord(
        case,
        (*(find_in_headers(case.case_id, headers) if headers else ()), *reading.findings),
        reading.images,
        voxels.fingerprint() if voxels else None,
        sum(each.path.stat().st_size for each in headers),
        headers[0].shape if headers else None,
        headers[0].spacing_mm if headers else None,
        tuple(np.unique(voxels.values)[:_MAX_LABELS].tolist()) if voxels and not name else (),
        volume_ml,
    )


_MAX_LABELS = 20


@dataclass
class _Reading:
    """The headers and findings of a case, while its files are read; ``at`` is the file that is being looked at."""

    case: Case
    at: Path | None = None
    images: dict[str, tuple[Path, tuple[object, ...]]] = field(default_factory=dict)
    headers: list[Header] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def label(self, path: Path, name: str | None) -> tuple[LabelledVoxels | None, dict[str, float]]:
        """Read the segmentation: its labelled voxels, and the regions' volumes in ml where its labels are sound."""
        volume = self._read(path)
        if volume is None:
            return None, {}
        voxels = labelled_voxels(volume.values)
        convention = get_convention(name) if name else None
        found = find_in_label(self.case.case_id, path, voxels, convention)
        self.findings += found
        if convention is None or any(finding.severity == "error" for finding in found):
            return voxels, {}
        return voxels, {region: n * volume.header.voxel_ml for region, n in voxels.counts(convention).items()}

    def image(self, modality: str, path: Path, voxels: LabelledVoxels | None) -> np.ndarray | bool:
        """Read an image: which of the labelled voxels lie in its background; none where that cannot be said.

        Its voxels are let go here, before the next file is read.
        """
        volume = self._read(path)
        if volume is None:
            return False
        self.images[modality] = path, fingerprint(volume.values)
        self.findings += find_in_image(self.case.case_id, path, volume.values)
        comparable = voxels is not None and volume.values.shape == voxels.shape
        return is_background(volume.values, voxels.where) if voxels and comparable else False

    def _read(self, path: Path) -> Volume | None:
        """A file's voxels; a finding and None if it cannot be read."""
        self.at = path
        try:
            volume = read_volume(path)
        except ValueError as error:
            self.findings.append(make_finding("unreadable", self.case.case_id, path, str(error)))
            return None
        self.headers.append(volume.header)
        return volume
