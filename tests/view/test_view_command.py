"""The view command: it prints the address, opens a browser if wanted, and explains what it cannot do in one line."""

from __future__ import annotations

import webbrowser

import pytest

from brats3d.view import server as server_module
from brats3d.view.server import ViewServer


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser was asked to open. The server stops as if by Ctrl-C."""

    def interrupt(server: ViewServer) -> None:
        raise KeyboardInterrupt

    addresses: list[str] = []
    monkeypatch.setattr(server_module, "niivue_script", lambda: b"")
    monkeypatch.setattr(ViewServer, "serve_forever", interrupt)
    monkeypatch.setattr(webbrowser, "open", addresses.append)
    return addresses


def test_the_address_is_printed_and_opened(run, out, opened):
    code, printed, _ = run("view", out)
    assert code == 0
    assert printed.startswith("2 cases at http://127.0.0.1:") and opened[0] in printed
    assert run("view", out, "--no-browser")[0] == 0
    assert len(opened) == 1


def test_a_folder_without_cases_is_an_error_in_one_line(run, tmp_path, opened):
    code, _, error = run("view", tmp_path)
    assert code == 1 and error.count("\n") == 1 and str(tmp_path) in error
    code, _, error = run("view", tmp_path / "none")
    assert code == 2 and error.count("\n") == 1
    assert opened == []
