"""The viewer in a real browser."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brats3d.view import find_viewed_cases, make_server
from tests.chromium import VIEWPORTS, chromium, watched_page

pytestmark = pytest.mark.slow

READY = "main[aria-busy=false]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if find_spec("ipyniivue") is None:
        pytest.skip("niivue is not installed: pip install 'brats3d[view]'")
    with chromium() as started:
        yield started


@pytest.fixture(params=VIEWPORTS.values(), ids=VIEWPORTS)
def page(browser: Any, built: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page of a run. In the end it has logged no error, and has requested nothing of another host."""
    with make_server(find_viewed_cases(built), "run") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with watched_page(browser, request.param) as (page, requested):
            page.goto(server.url)
            page.wait_for_selector(READY, timeout=90_000)
            yield page
        server.shutdown()
    assert not [url for url in requested if not url.startswith((server.url, "data:", "blob:"))]
    volumes = {url.removeprefix(server.url) for url in requested if "/cases/" in url}
    assert {url.split("/")[1] for url in volumes} == {"0", "1"}  # those that were looked at
    assert "cases/1/t1.nii.gz" not in volumes  # nor is a sequence loaded that was not


def coloured(png: bytes) -> int:
    """Return the number of pixels that are neither grey nor the green of the crosshair."""
    rgb = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    is_green = rgb[..., 1] == rgb.max(-1)
    return int(np.count_nonzero((np.ptp(rgb, axis=-1) > 25) & ~is_green))


def test_cases_sequences_planes_and_overlay_are_shown(page):
    main = page.locator("main")

    def panels() -> list[bytes]:
        page.wait_for_timeout(300)
        page.wait_for_selector(READY, timeout=90_000)
        return [page.locator(f"#{name} div").screenshot() for name in ("reference", "prediction")]

    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    first = panels()
    assert first[0] != first[1]
    page.keyboard.press("o")
    bare = panels()
    assert coloured(first[0]) > 200 and coloured(bare[0]) == coloured(bare[1]) == 0
    page.keyboard.press("o")
    assert panels() == first

    page.keyboard.press("w")
    page.keyboard.press("t")
    page.keyboard.press("e")
    assert coloured(panels()[0]) == 0
    for box in ("WT", "TC", "ET"):
        page.get_by_label(box, exact=True).check()
    assert panels() == first

    place = main.get_attribute("data-place")
    box = page.locator("#reference canvas").bounding_box()
    page.locator("#reference canvas").click(position={"x": box["width"] * 0.6, "y": box["height"] * 0.3})
    clicked = panels()
    assert main.get_attribute("data-place") != place
    assert clicked[0] != first[0] and clicked[1] != first[1]  # both panels have moved
    page.keyboard.press("ArrowUp")
    moved = panels()
    assert moved[0] != clicked[0] and moved[1] != clicked[1]

    page.keyboard.press("2")
    assert panels()[0] != moved[0] and main.get_attribute("data-sequence") == "t1ce"
    drawn = [panels()[0]]
    for view in ("Planes and 3-D", "3-D", "Axial"):
        page.get_by_label("View").select_option(view)
        drawn.append(panels()[0])
        assert drawn[-1] not in drawn[:-1]

    name = main.get_attribute("data-case")
    page.keyboard.press("n")
    page.wait_for_timeout(300)
    page.wait_for_selector(READY, timeout=90_000)
    assert main.get_attribute("data-case") != name
    assert page.locator("#cases [aria-current=true] span").inner_text() == main.get_attribute("data-case")
