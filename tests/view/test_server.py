"""The server answers for the files of the listed cases, below its secret path, and for nothing else."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d.errors import UsageError
from brats3d.view import LabelFile, ViewedCase, find_viewed_cases, server as server_module
from brats3d.view.niivue import niivue_script
from brats3d.view.server import ViewServer, make_server
from brats3d.view.volume_bytes import image_bytes, label_bytes


@pytest.fixture
def server(built: Path) -> Iterator[ViewServer]:
    with ViewServer(0, find_viewed_cases(built), "run", b"export {}") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def get(server: ViewServer, path: str, secret: str | None = None) -> tuple[int, bytes]:
    """Request a path as it is: a client library would normalise it."""
    connection = http.client.HTTPConnection(*server.server_address, timeout=20)
    connection.request("GET", f"/{server.secret if secret is None else secret}/{path}")
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def volume(content: bytes) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj)


def test_the_page_and_the_list_are_served_and_hold_no_paths(server, built):
    for name in ("", "page.js", "page.css", "niivue.js"):
        assert get(server, name)[0] == 200
    status, content = get(server, "cases.json")
    assert status == 200 and str(built).encode() not in content and str(built.parent.name).encode() not in content
    assert [case["case_id"] for case in json.loads(content)["cases"]] == [case.case_id for case in server.cases]


def test_the_volumes_of_a_case_are_served(server):
    case = server.cases[0]
    assert get(server, "cases/0/t1ce.nii.gz") == (200, case.images["t1ce"].read_bytes())
    status, content = get(server, "cases/0/reference.nii.gz")
    assert status == 200
    stored = np.asarray(nib.load(case.reference.path).dataobj)
    expected = np.select([stored == 4, stored == 1, stored == 2], [3, 2, 1])
    np.testing.assert_array_equal(volume(content), expected)


@pytest.mark.parametrize(
    "path",
    [
        *("cases/99/t1.nii.gz", "cases/-1/t1.nii.gz", "cases/0/t9.nii.gz", "cases/0/", "cases/0/t1.nii.gz/.."),
        *("../../../../etc/passwd", "cases/0/../../../../etc/passwd", "%2e%2e/server.py", "server.py", "//etc/passwd"),
    ],
)
def test_other_paths_are_not_found(server, path):
    assert get(server, path)[0] == 404


def test_without_the_secret_nothing_is_served(server):
    for secret in ("", "x", server.secret[:-1], "é"):
        if secret.isascii():
            assert get(server, "cases.json", secret)[0] == 404


def test_a_damaged_file_is_explained_in_one_line(built, tmp_path):
    damaged = tmp_path / "BraTS20_Training_001.nii.gz"
    damaged.write_bytes(b"no image")
    with ViewServer(
        0, [ViewedCase("a", {"t1": tmp_path / "gone.nii"}, LabelFile(damaged, "brats2020"))], "", b""
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("prediction", "t1"):
            status, content = get(server, f"cases/0/{name}.nii.gz")
            assert status == 422 and str(tmp_path).encode() in content and b"\n" not in content
        server.shutdown()


def test_labels_of_another_convention_are_refused_and_those_of_an_unknown_one(built, tmp_path):
    path = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 3, np.uint8), np.eye(4)), path)
    for convention in ("brats2020", None):
        with pytest.raises(ValueError, match="--label-convention NAME"):
            label_bytes(LabelFile(path, convention))
    assert set(np.unique(volume(label_bytes(LabelFile(path, "brats2023"))))) == {3}


def test_an_image_of_another_format_is_converted(tmp_path):
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    nib.save(nib.MGHImage(values, np.diag([2, 1, 1, 1.0])), tmp_path / "t1.mgz")
    content = image_bytes(tmp_path / "t1.mgz")
    np.testing.assert_array_equal(volume(content), values)
    np.testing.assert_allclose(nib.Nifti1Image.from_bytes(gzip.decompress(content)).affine, np.diag([2, 1, 1, 1]))


def test_a_port_in_use_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(server_module, "niivue_script", lambda: b"")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError) as caught:
            make_server([], "", taken.getsockname()[1])
    assert caught.value.subject == "port" and "\n" not in str(caught.value)


def test_only_this_computer_can_connect(server):
    assert server.server_address[0] == "127.0.0.1"


def test_without_niivue_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("brats3d.view.niivue.find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        niivue_script()
    assert caught.value.advice == "run: pip install 'brats3d[view]'"


def test_niivue_is_taken_from_the_wheel_without_an_import_of_jupyter():
    if find_spec("ipyniivue") is None:
        pytest.skip("niivue is not installed: pip install 'brats3d[view]'")
    code = "import sys; from brats3d.view import niivue_script; print(niivue_script()[-60:])"
    code += "; assert 'ipyniivue' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "as Niivue" in done.stdout
