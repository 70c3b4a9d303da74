"""The report in a real browser, at the width of a desk and of a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import VIEWPORTS, chromium, watched_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(built: Path) -> Path:
    return built / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(params=VIEWPORTS.values(), ids=VIEWPORTS)
def page(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The open report. In the end it has logged no error and requested nothing but itself."""
    with watched_page(browser, request.param) as (page, requested):
        page.goto(report.as_uri())
        yield page
    assert {url for url in requested if not url.startswith("data:")} == {report.as_uri()}


def open_viewer(page: Any) -> Any:
    """The viewer of the worst case, once it is drawn."""
    viewer = page.locator(".viewer").last
    page.wait_for_function("[...document.querySelectorAll('.viewer')].every(viewer => viewer.dataset.place)")
    viewer.scroll_into_view_if_needed()
    return viewer


def drawn(viewer: Any) -> list[str]:
    """What the reference's and the prediction's canvas show."""
    return [canvas.evaluate("canvas => canvas.toDataURL()") for canvas in viewer.locator("canvas").all()]


def test_the_page_fits_the_screen_and_its_tables_scroll_within_themselves(page):
    open_viewer(page)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    wide = page.evaluate("[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)")
    assert page.viewport_size["width"] > 1000 or max(wide) > 0


def test_reference_and_prediction_move_together_by_mouse_and_keys(page):
    viewer = open_viewer(page)
    shape = json.loads(viewer.get_attribute("data-shape"))
    shown = [drawn(viewer)]
    for number, canvas in enumerate(viewer.locator("canvas").all()):
        box = canvas.bounding_box()
        canvas.click(position={"x": box["width"] * (0.45 + 0.1 * number), "y": box["height"] * 0.4})
        shown.append(drawn(viewer))
    x, y, z = json.loads(f"[{viewer.get_attribute('data-place')}]")
    canvas.press("ArrowUp")
    assert json.loads(f"[{viewer.get_attribute('data-place')}]") == [x, y, min(z + 1, shape[2] - 1)]
    shown.append(drawn(viewer))
    canvas.press("ArrowDown")
    assert drawn(viewer) == shown[-2]
    assert shown[0][0] != shown[0][1]
    for before, after in pairwise(shown):
        assert before[0] != after[0] and before[1] != after[1]


def test_each_view_moves_the_crosshair_along_its_own_axes(page):
    """Clicks at the corners of the three views, each of which leaves the axis across it alone."""
    viewer = open_viewer(page)
    width, height, depth = json.loads(viewer.get_attribute("data-shape"))
    start = json.loads(viewer.get_attribute("data-start"))
    canvas = viewer.locator("canvas").first
    box = canvas.bounding_box()
    voxel = box["width"] / (2 * width + height)
    high = max(height, depth)
    places = [
        (0, (high - depth) // 2, [start[0], 0, depth - 1]),
        (height + width - 1, (high - depth) // 2 + depth - 1, [width - 1, 0, 0]),
        (height + width, (high - height) // 2 + 3, [0, 3, 0]),
    ]
    for i, j, place in places:
        canvas.click(position={"x": (i + 0.5) * voxel, "y": (j + 0.5) * voxel})
        assert json.loads(f"[{viewer.get_attribute('data-place')}]") == place


def test_another_sequence_shows_the_same_place(page):
    viewer = open_viewer(page)
    before, place = drawn(viewer), viewer.get_attribute("data-place")
    viewer.get_by_label("T1ce").check()
    page.wait_for_timeout(300)
    assert all(a != b for a, b in zip(before, drawn(viewer), strict=True))
    viewer.get_by_label("FLAIR").check()
    page.wait_for_timeout(300)
    assert drawn(viewer) == before and viewer.get_attribute("data-place") == place


def test_the_opacity_of_the_regions_can_be_changed(page):
    viewer = open_viewer(page)
    before = drawn(viewer)
    viewer.get_by_label("Opacity").fill("0")
    without = drawn(viewer)
    assert before[0] != without[0] == without[1]  # both show the bare image


def test_the_viewer_starts_in_the_tumour(page):
    """The canvas is not grey around the crosshair: the regions are painted there."""
    hued = open_viewer(page).evaluate(
        """viewer => {
            const canvas = viewer.querySelector("canvas");
            const [width, height] = JSON.parse(viewer.dataset.shape);
            const [x, y] = JSON.parse(viewer.dataset.start);
            const zoom = canvas.width / (2 * width + height);
            const context = canvas.getContext("2d");
            const top = canvas.height / zoom - height >> 1;
            const at = [(height + width + x - 1.5) * zoom, (top + y - 1.5) * zoom, 4 * zoom, 4 * zoom];
            const data = context.getImageData(...at.map(Math.round)).data;
            let painted = 0;
            for (let i = 0; i < data.length; i += 4) {
                const [r, g, b] = data.slice(i, i + 3);
                const crosshair = g > r + 40 && g > b + 40;
                if (!crosshair && Math.max(r, g, b) - Math.min(r, g, b) > 20) painted += 1;
            }
            return painted / (data.length / 4);
        }"""
    )
    assert hued > 0.3


def test_scores_are_shown_and_sorted(page, report):
    rows = json.loads((report.parent / "metrics.json").read_text())["rows"]
    dice = {row["case_id"]: row["dice"] for row in rows if row["region"] == "WT"}
    table = page.locator("table.sortable")
    first = table.locator("tbody tr").first
    assert first.locator("td").first.inner_text() == f"{dice[first.locator('th').inner_text()]:.3f}"
    button = table.locator("thead tr").last.get_by_role("button").nth(1)
    for order in (sorted(dice.values()), sorted(dice.values(), reverse=True)):
        button.click()
        shown = [float(cell) for cell in table.locator("tbody tr > td:nth-child(2)").all_inner_texts()]
        assert shown == pytest.approx(order, abs=6e-4)
    assert table.locator("th[aria-sort=descending]").count() == 1


def test_without_scripts_everything_but_the_viewer_is_there(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("table.sortable tbody tr").count() == 4
    assert page.locator(".panels img").count() == 3 * 8
    context.close()
