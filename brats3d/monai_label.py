"""The bundle for MONAI Label's ``monaibundle`` app: a case is loaded from the path of one file, and training ends with
new weights for inference.

``python -m brats3d.monai_label apps/monaibundle/model/brats3d`` writes the bundle to the app's folder. MONAI Label
accepts no overlays and reads the names of segments from the metadata, so this bundle has configs of its own. They
differ from the installed bundle's as follows:

- the loader is :class:`LoadCased`;
- labels are those of BraTS 2023 (1, 2, 3), since 3D Slicer numbers the segments by their position in a list;
- each training has a new folder, and replaces the bundle's weights at its end.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from monai.config import KeysCollection
from monai.data.utils import is_no_channel
from monai.transforms import LoadImaged

from brats3d.cases import parse_file_name
from brats3d.config_reader import installed_bundle
from brats3d.data import VolumeReader
from brats3d.errors import DataError
from brats3d.files import whole_folder
from brats3d.labels import MODALITIES
from brats3d.networks import read_checkpoint, save_checkpoint
from brats3d.training import RunState

CONVENTION = "brats2023"
"""Label convention of the segmentations that are sent to MONAI Label's clients and come back for training."""

SEGMENTS = {0: "background", 1: "necrotic or non-enhancing core", 2: "edema", 3: "enhancing tumour"}
"""Names of its labels for the clients."""


class LoadCased(LoadImaged):
    """Load a case, given the path of one file: one with all sequences as channels, or the file of one sequence.

    The files of the other sequences lie in the same folder, with the same case in their names.

    Args:
        keys: as in ``LoadImaged``. The first is the key of the case; files of other keys are loaded as they are.
        modalities: the sequences, in the order of the channels.
        arguments: further arguments of ``LoadImaged``.

    Raises:
        starlette.exceptions.HTTPException: when called, if the case cannot be read. MONAI Label sends its text to the
            client; any other exception becomes "Internal Server Error".
    """

    def __init__(self, keys: KeysCollection, modalities: Sequence[str] = MODALITIES, **arguments: Any) -> None:
        super().__init__(keys, **arguments)
        self.modalities = tuple(modalities)

    def register(self, reader: Any) -> None:
        """Ignore a reader: :class:`brats3d.data.CaseDataset` registers one that refuses files of all sequences."""

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        """Return the data with the images."""
        from starlette.exceptions import HTTPException

        try:
            return self._load(data, reader)
        except DataError as error:
            raise HTTPException(422, str(error)) from error

    def _load(self, data: Mapping[Hashable, Any], reader: Any) -> dict[Hashable, Any]:
        key = self.keys[0]
        path = Path(data[key])
        files = find_sequences(path, self.modalities)
        if len(files) > 1:
            data, reader = {**data, key: [str(file) for file in files]}, VolumeReader()
        loaded = super().__call__(data, reader)
        channel_dim = loaded[key].meta["original_channel_dim"]
        channels = 1 if is_no_channel(channel_dim) else loaded[key].shape[channel_dim]
        if channels != len(self.modalities):
            raise DataError(
                path.name,
                expected=f"{len(self.modalities)} channels ({', '.join(self.modalities)}), or one folder with a file "
                "for each of them, named like CASE_t1.nii.gz",
                found=channels,
            )
        return loaded


def find_sequences(path: Path, modalities: Sequence[str] = MODALITIES) -> list[Path]:
    """Return the files of a case, one for each sequence; only ``path`` itself if its name states no sequence.

    Args:
        path: the file of one sequence, or of all.
        modalities: the sequences to find.

    Raises:
        DataError: if the folder has no file for one of the sequences.
    """
    parsed = parse_file_name(path.name)
    if parsed is None or parsed[1] not in modalities:
        return [path]
    names = {parse_file_name(file.name): file for file in sorted(path.parent.iterdir(), reverse=True)}
    found = {modality: names.get((parsed[0], modality)) for modality in modalities}
    found[parsed[1]] = path
    if missing := [modality for modality, file in found.items() if file is None]:
        raise DataError(
            path.name,
            f"no {', '.join(missing)} of the same case beside it",
            expected=f"a file for each of {', '.join(modalities)}, or one file with all of them as channels",
        )
    return [file for file in found.values() if file]


def new_run_folder(bundle_root: str) -> str:
    """Return the folder of a training that starts now."""
    return str(Path(bundle_root) / "runs" / datetime.now(UTC).strftime("%Y%m%d-%H%M%S"))


def publish_weights(run: RunState, bundle_root: str) -> None:
    """Replace the weights of a bundle by the best ones of a run.

    Raises:
        NotFoundError: if no validation has given a score, so that the run has no best weights.
    """
    save_checkpoint(Path(bundle_root) / "models" / "model.pt", *read_checkpoint(run.checkpoints / "best.pt"))


def write_bundle(folder: str | Path) -> Path:
    """Write the bundle for MONAI Label.

    Raises:
        FileExistsError: if the folder exists and is not empty: it may hold weights that were trained there.
    """
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder) as hidden:
        shutil.copytree(installed_bundle(), hidden, dirs_exist_ok=True)
        configs = hidden / "configs"
        for name, adapt in (("inference", _adapt_inference), ("train", _adapt_training)):
            config = yaml.safe_load((configs / f"{name}.yaml").read_text(encoding="utf-8"))
            adapt(config)
            (configs / f"{name}.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        metadata = json.loads((configs / "metadata.json").read_text(encoding="utf-8"))
        metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = SEGMENTS
        (configs / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    return Path(folder)


def _adapt_inference(config: dict[str, Any]) -> None:
    config["label_convention"] = CONVENTION
    _use_case_loader(config["preprocessing"]["transforms"])


def _adapt_training(config: dict[str, Any]) -> None:
    config["label_convention"] = CONVENTION
    config["output_dir"] = {"_target_": "brats3d.monai_label.new_run_folder", "bundle_root": "@bundle_root"}
    config["epochs"] = "@train#trainer#max_epochs"  # MONAI Label overrides this one
    transforms = config["train"]["deterministic_transforms"]
    _use_case_loader(transforms)
    _find(transforms, "brats3d.data.StandardLabelsd")["convention"] = "@label_convention"
    publish = {"_target_": "brats3d.monai_label.publish_weights", "run": "@state", "bundle_root": "@bundle_root"}
    config["training"].append(publish)
    config["initialize"].insert(0, {"_target_": "brats3d.bundle.explain_errors"})


def _use_case_loader(transforms: Sequence[dict[str, Any]]) -> None:
    loader = _find(transforms, "LoadImaged")
    loader |= {"_target_": "brats3d.monai_label.LoadCased", "modalities": "@modalities"}


def _find(transforms: Sequence[dict[str, Any]], target: str) -> dict[str, Any]:
    return next(each for each in transforms if each["_target_"] == target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the bundle for MONAI Label's monaibundle app.")
    parser.add_argument("folder", help="such as apps/monaibundle/model/brats3d")
    print(write_bundle(parser.parse_args().folder))
