"""Write the raw scans of a phantom."""

from __future__ import annotations

import json
from pathlib import Path

from brats3d.files import flush_file, whole_folder, write_nifti
from brats3d.phantoms.raw_phantom import RawPhantom

MOTIONS_NAME = "true_motions.json"
"""Name of the file that says how the head lay in each sequence."""


def write_raw_scans(raw: RawPhantom, folder: Path) -> None:
    """Write ``t1.nii.gz`` to ``flair.nii.gz`` and the true motions; the folder appears whole or not at all.

    The motions are a JSON object: modality -> 4 x 4 matrix, RAS mm in BraTS space -> RAS mm in the scanner.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder) as hidden:
        for name, (values, affine) in raw.images.items():
            write_nifti(hidden / f"{name}.nii.gz", values, affine)
        motions = {name: motion.tolist() for name, motion in raw.motions.items()}
        (hidden / MOTIONS_NAME).write_text(json.dumps(motions, indent=1), encoding="utf-8")
        flush_file(hidden / MOTIONS_NAME)
