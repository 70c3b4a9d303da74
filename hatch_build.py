"""Pack the bundle: with its configs as JSON too, since MONAI's ``load``, MonaiAlgo and NVFlare look for those names.

python hatch_build.py    writes dist/brats3d_bundle-VERSION.zip; the wheel gets the same files as brats3d/_bundle
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUNDLE = Path(__file__).parent / "bundle"


def write_json_configs(folder: Path) -> list[Path]:
    """Write ``NAME.json`` to the folder for each ``NAME.yaml`` of the bundle, which may lie in a folder of its own."""
    written = []
    for path in sorted((BUNDLE / "configs").rglob("*.yaml")):
        written.append((folder / path.relative_to(BUNDLE / "configs")).with_suffix(".json"))
        written[-1].parent.mkdir(exist_ok=True)
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        written[-1].write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return written


def write_zip(out: Path) -> Path:
    """Write the bundle to a zip file in ``out``, as a folder ``brats3d``."""
    version = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    with TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(BUNDLE, Path(folder) / "brats3d"))
        write_json_configs(copy / "configs")
        return Path(shutil.make_archive(str(out / f"brats3d_bundle-{version}"), "zip", folder, copy.name))


class JsonConfigs(BuildHookInterface):
    """Adds the JSON configs to the bundle in the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files to include."""
        self._folder = TemporaryDirectory()
        for path in write_json_configs(Path(self._folder.name)):
            name = path.relative_to(self._folder.name).as_posix()
            build_data["force_include"][str(path)] = f"brats3d/_bundle/configs/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the files."""
        self._folder.cleanup()


if __name__ == "__main__":
    print(write_zip(Path(__file__).parent / "dist"))
