"""niivue's JavaScript (BSD-2-Clause), from the wheel of ipyniivue: its Jupyter widget bundles it in one ES module."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from brats3d.errors import UsageError

SHA256 = "922951141f03da6294cc74a7c520d694a9723733ee25d997b85da8136057a96b"
"""Digest of the bundle in ipyniivue 2.4.4, the version that ``brats3d[view]`` requires."""

_EXPORTS = b"export{Ih as default}"
_EXPORTS_NIIVUE = b"export{t2 as Niivue,VA as NVImage}"
"""The bundle exports only the widget. These are its names for niivue's classes, which the digest holds in place."""


def niivue_script() -> bytes:
    """Return an ES module that exports ``Niivue`` and ``NVImage``. ipyniivue, which needs Jupyter, is not imported.

    Raises:
        UsageError: if ipyniivue is not installed, or in another version.
    """
    advice = "run: pip install 'brats3d[view]'"
    spec = find_spec("ipyniivue")
    if spec is None or spec.origin is None:
        raise UsageError("view", "niivue is not installed", advice=advice)
    script = (Path(spec.origin).parent / "static" / "widget.js").read_bytes()
    if hashlib.sha256(script).hexdigest() != SHA256:
        raise UsageError("view", "ipyniivue has another version than the viewer needs", advice=advice)
    return script.replace(_EXPORTS, _EXPORTS_NIIVUE)
