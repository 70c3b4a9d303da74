"""The viewer's server: the page, the list of cases, and their volumes, on this computer alone."""

from __future__ import annotations

import json
import re
import secrets
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from brats3d.errors import UsageError
from brats3d.files import first_line
from brats3d.labels import REGION_COLOURS, REGION_NAMES, REGIONS_TO_READ
from brats3d.view.niivue import niivue_script
from brats3d.view.viewed_case import ViewedCase
from brats3d.view.volume_bytes import image_bytes, label_bytes

_FOLDER = Path(__file__).parent
_PAGES = {
    "": ("page.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
_VOLUME = re.compile(r"cases/(\d{1,9})/(\w{1,20})\.nii\.gz")

_POLICY = "default-src 'self'; img-src 'self' data: blob:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
_POLICY += "script-src 'self' blob: 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'"
"""The browser refuses every request to another host."""


class ViewServer(ThreadingHTTPServer):
    """Serves cases below a secret path, so that other users of a shared computer, and other pages, cannot read them.

    Args:
        port: 0 chooses a free one.
        cases: the cases, in the order of the list.
        title: the page's title.
        script: niivue's module.
    """

    daemon_threads = True

    def __init__(self, port: int, cases: Sequence[ViewedCase], title: str, script: bytes) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.cases = cases
        self.script = script
        self.secret = secrets.token_urlsafe(12)
        regions = [{"id": r, "name": REGION_NAMES[r], "colour": REGION_COLOURS[r]} for r in REGIONS_TO_READ]
        content = {"title": title, "regions": regions, "cases": [case.to_json() for case in cases]}
        self.listing = json.dumps(content).encode()

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self.server_address[1]}/{self.secret}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Print the traceback of an error, but none if the browser has gone on to another case."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def answer(self, path: str) -> tuple[bytes, str] | None:
        """Return content and type for a path below the secret; None if there is no such page, case or file.

        Raises:
            DataError, OSError: if a file of a case cannot be read.
        """
        if path in _PAGES:
            name, kind = _PAGES[path]
            return (_FOLDER / name).read_bytes(), f"{kind}; charset=utf-8"
        if path == "cases.json":
            return self.listing, "application/json"
        if path == "niivue.js":
            return self.script, "text/javascript; charset=utf-8"
        if (match := _VOLUME.fullmatch(path)) and int(match[1]) < len(self.cases):
            case, name = self.cases[int(match[1])], match[2]
            if name in case.labels:
                return label_bytes(case.labels[name]), "application/octet-stream"
            if name in case.images:
                return image_bytes(case.images[name]), "application/octet-stream"
        return None


def make_server(cases: Sequence[ViewedCase], title: str, port: int = 0) -> ViewServer:
    """Make the server of the viewer; ``serve_forever()`` runs it.

    Args:
        cases: the cases, in the order of the list.
        title: the page's title.
        port: the port on 127.0.0.1; 0 chooses a free one.

    Raises:
        UsageError: if niivue is not installed, or the port cannot be used.
    """
    script = niivue_script()
    try:
        return ViewServer(port, cases, title, script)
    except OSError as error:
        advice = "choose another port, or omit --port"
        raise UsageError("port", f"cannot listen on {port}: {error.strerror}", advice=advice) from error


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        _, _, rest = self.path.partition("/")
        secret, _, path = rest.partition("/")
        try:
            answer = (
                self.server.answer(path)
                if secrets.compare_digest(secret.encode(), self.server.secret.encode())
                else None
            )
        except (OSError, ValueError) as error:
            self._send(422, first_line(error).encode(errors="replace"), "text/plain; charset=utf-8")
            return
        if answer is None:
            self._send(404, b"not found", "text/plain")
        else:
            self._send(200, *answer)

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Print no line for each request."""
