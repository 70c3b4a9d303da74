"""MONAI Label's server with its ``monaibundle`` app, over REST: ``make consumers``, in an environment of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import brats3d
from brats3d.cases import Case, find_cases
from brats3d.monai_label import CONVENTION, write_bundle
from brats3d.networks import weights_digest
from brats3d.phantoms import write_phantoms

requests = pytest.importorskip("requests")
pytest.importorskip("monailabel")
pytestmark = pytest.mark.slow

WITH_SIBLINGS, IN_ONE_FILE, TO_TRAIN, FULL_SIZE = "BraTS-GLI-00001-000", "BRATS_002", "BRATS_003", "BRATS_004"


class Server:
    """A running server.

    Args:
        url: its address.
        bundle: the bundle in the app's folder.
        log: the log file.
    """

    def __init__(self, url: str, bundle: Path, log: Path) -> None:
        self.url, self.bundle, self.log = url, bundle, log

    def get(self, path: str) -> Any:
        return requests.get(f"{self.url}/{path}", timeout=60).json()

    def segment(self, image_id: str) -> Any:
        params = {"image": image_id, "output": "image"}
        return requests.post(f"{self.url}/infer/brats3d", params=params, timeout=600)

    def labels(self, image_id: str, tmp_path: Path) -> np.ndarray:
        """Return the voxels of the segmentation."""
        answer = self.segment(image_id)
        assert answer.status_code == 200, answer.text
        file = tmp_path / "answer.nii.gz"
        file.write_bytes(answer.content)
        return np.asarray(nib.load(file).dataobj)

    def save_label(self, image_id: str, label: Path | None) -> None:
        assert label
        with label.open("rb") as file:
            answer = requests.put(
                f"{self.url}/datastore/label",
                params={"image": image_id, "tag": "final"},
                files={"label": (label.name, io.BytesIO(file.read()))},
                timeout=60,
            )
        assert answer.status_code == 200, answer.text

    def train(self, **request: Any) -> dict[str, Any]:
        """Train to the end, and return the task."""
        answer = requests.post(f"{self.url}/train/brats3d", json={"device": "cpu", **request}, timeout=60)
        assert answer.status_code == 200, answer.text
        while (task := self.get("train/"))["status"] in ("SUBMITTED", "RUNNING"):
            time.sleep(2)
        return task


def one_file(case: Case, out: Path) -> None:
    """Write the sequences of a case as the channels of one file."""
    images = [nib.load(path) for path in case.images.values()]
    voxels = np.stack([np.asarray(image.dataobj) for image in images], axis=-1)
    nib.save(nib.Nifti1Image(voxels, images[0].affine), out)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """The cases by the names of their images; their labels are those of BraTS 2023."""
    small, full = tmp_path_factory.mktemp("small"), tmp_path_factory.mktemp("full")
    write_phantoms(small, 3, size="small", seed=1, layout="brats2023")
    write_phantoms(full, 1, seed=2, layout="brats2023")
    names = (WITH_SIBLINGS, IN_ONE_FILE, TO_TRAIN, FULL_SIZE)
    return dict(zip(names, [*find_cases(small), *find_cases(full)], strict=True))


@pytest.fixture(scope="module")
def server(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server, with a case of one file per sequence, cases in one file each, and a sequence alone."""
    folder = tmp_path_factory.mktemp("label")
    studies = folder / "studies"
    studies.mkdir()
    assert cases[WITH_SIBLINGS].case_id == WITH_SIBLINGS
    for image in cases[WITH_SIBLINGS].images.values():
        shutil.copy(image, studies)
    for name in (IN_ONE_FILE, TO_TRAIN, FULL_SIZE):
        one_file(cases[name], studies / f"{name}.nii.gz")
    shutil.copy(cases[TO_TRAIN].images["t1"], studies / "alone_t1.nii.gz")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["monailabel", "apps", "--download", "--name", "monaibundle", "--output", str(folder)]
    subprocess.run(command, env=environment, check=True)
    bundle = write_bundle(folder / "monaibundle" / "model" / "brats3d")
    train = bundle / "configs" / "train.json"
    knobs = {"patch_size": [32, 32, 32], "val_interval": 1, "cache": 0, "window": [32, 32, 32]}
    train.write_text(json.dumps({**json.loads(train.read_text()), **knobs}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = ["monailabel", "start_server", "--app", str(folder / "monaibundle"), "--studies", str(studies)]
    command += [
        "--conf",
        "models",
        "brats3d",
        "--conf",
        "zoo_source",
        "local",
        "--conf",
        "sam2",
        "false",
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    log = folder / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            running = Server(f"http://127.0.0.1:{port}", bundle, log)
            for _ in range(300):
                assert process.poll() is None, log.read_text()[-3000:]
                with contextlib.suppress(requests.ConnectionError):
                    running.get("info/")
                    break
                time.sleep(1)
            yield running
        finally:
            process.terminate()
            process.wait(60)


def expected(case: Case, out: Path, **knobs: Any) -> np.ndarray:
    """Return the voxels that predict writes with windows of 128³ in float32."""
    settings = {"window": [128, 128, 128], "amp": False, "device": "cpu", "label_convention": CONVENTION, **knobs}
    (file,) = brats3d.predict(case.files[0].parent, out, **settings)
    return np.asarray(nib.load(file).dataobj)


def test_the_segments_are_the_labels_of_the_file_in_their_order(server: Server) -> None:
    labels = server.get("info/")["models"]["brats3d"]["labels"]
    assert labels == {"necrotic or non-enhancing core": 1, "edema": 2, "enhancing tumour": 3}


@pytest.mark.parametrize("image_id", [f"{WITH_SIBLINGS}-t1c", f"{WITH_SIBLINGS}-t2f", IN_ONE_FILE, FULL_SIZE])
def test_the_segmentation_is_that_of_predict(
    server: Server, cases: dict[str, Case], image_id: str, tmp_path: Path
) -> None:
    case = cases.get(image_id) or cases[WITH_SIBLINGS]
    found, wanted = server.labels(image_id, tmp_path), expected(case, tmp_path / "out")
    print(f"{image_id}: {np.count_nonzero(found != wanted)} of {found.size:,} voxels differ; labels {np.unique(found)}")
    assert wanted.any()
    np.testing.assert_array_equal(found, wanted)


def test_a_sequence_alone_is_refused_with_the_reason(server: Server) -> None:
    answer = server.segment("alone_t1")
    assert answer.status_code == 422
    print(answer.json()["detail"])
    assert "no t1ce, t2, flair of the same case" in answer.json()["detail"]


def test_an_uploaded_sequence_is_refused_with_the_reason(server: Server, cases: dict[str, Case]) -> None:
    upload = {"file": ("t1.nii.gz", cases[TO_TRAIN].images["t1"].read_bytes())}
    answer = requests.post(f"{server.url}/infer/brats3d", params={"output": "image"}, files=upload, timeout=600)
    assert answer.status_code == 422
    print(answer.json()["detail"])
    assert "expected 4 channels (t1, t1ce, t2, flair)" in answer.json()["detail"]


def test_a_training_that_fails_says_why_and_leaves_the_weights(
    server: Server, cases: dict[str, Case], tmp_path: Path
) -> None:
    before = weights_digest(server.bundle / "models" / "model.pt")
    label = nib.load(cases[TO_TRAIN].label)
    wrong = np.where(np.asarray(label.dataobj) == 3, 7, label.dataobj).astype(np.uint8)
    nib.save(nib.Nifti1Image(wrong, label.affine), tmp_path / "label.nii.gz")
    for image_id in (f"{WITH_SIBLINGS}-t1c", TO_TRAIN):
        server.save_label(image_id, tmp_path / "label.nii.gz")
    task = server.train(max_epochs=1, val_split=0.5)
    print(task["details"][-1])
    assert task["status"] == "ERROR"
    assert "contains labels {0, 1, 2, 7}" in task["details"][-1]
    assert weights_digest(server.bundle / "models" / "model.pt") == before


def test_each_training_replaces_the_weights_that_the_next_inference_uses(
    server: Server, cases: dict[str, Case], tmp_path: Path
) -> None:
    weights = server.bundle / "models" / "model.pt"
    server.save_label(f"{WITH_SIBLINGS}-t1c", cases[WITH_SIBLINGS].label)
    server.save_label(TO_TRAIN, cases[TO_TRAIN].label)
    for number in (1, 2):
        before = weights_digest(weights)
        task = server.train(max_epochs=2, val_split=0.5)
        print(f"training {number}: {task['status']}", *task["details"], sep="\n  ")
        assert task["status"] == "DONE"
        assert weights_digest(weights) != before
    assert len(list((server.bundle / "runs").glob("*/checkpoints/best.pt"))) == 2
    found = server.labels(IN_ONE_FILE, tmp_path)
    np.testing.assert_array_equal(found, expected(cases[IN_ONE_FILE], tmp_path / "out", checkpoint=weights))
