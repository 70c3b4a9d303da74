"""The report in a real browser, at the width of a desk and of a phone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from brats3d.cases.search import find_cases
from brats3d.data.label_transforms import labels_to_regions
from brats3d.evaluation.case_scores import score_case
from brats3d.evaluation.score_files import write_scores
from brats3d.files.nifti_writing import write_segmentation
from brats3d.labels import BRATS2020, MODALITIES
from brats3d.phantoms.releases import write_phantoms
from brats3d.report.make import make_report

pytestmark = pytest.mark.slow

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium")
VIEWPORTS = {"desk": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three cases, predicted with a shift of one voxel, of two and of three."""
    root = tmp_path_factory.mktemp("report")
    write_phantoms(root / "data", 3, seed=1, size="small", setting="plain", progress=False)
    run, rows = root / "run", []
    for number, case in enumerate(find_cases(root / "data")):
        label = np.asarray(nib.load(case.label).dataobj)
        pred = np.roll(label, number + 1, axis=0)
        write_segmentation(run / "segmentations" / f"{case.case_id}.nii.gz", pred, case.images["t1"])
        regions = [labels_to_regions(torch.from_numpy(np.ascontiguousarray(x))[None], BRATS2020) for x in (pred, label)]
        rows += score_case(*regions, case.case_id, (1, 1, 1))
    write_scores(run / "metrics.json", rows, epoch=1)
    settings = {"dataset_dir": str(root / "data"), "modalities": list(MODALITIES)}
    (run / "settings.json").write_text(json.dumps(settings))
    return make_report(run, progress=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=VIEWPORTS.values(), ids=VIEWPORTS)
def page(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The open report; at the end it has complained of nothing and asked for nothing but itself."""
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked_for: asked.append(asked_for.url))
    page.goto(report.as_uri())
    yield page
    page.close()
    assert complaints == []
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}


def frames(page: Any, sequence: str = "flair") -> list[Any]:
    """The frames of the first viewer, reference and prediction, once they are drawn."""
    found = page.locator(".viewer").first.locator(f'.pair[data-sequence="{sequence}"] iframe')
    for frame in found.all():
        frame.scroll_into_view_if_needed()
    page.wait_for_function(
        "s => [...document.querySelector('.viewer').querySelectorAll(`.pair[data-sequence='${s}'] iframe`)]"
        ".every(frame => frame.dataset.ready && frame.contentDocument.querySelector('canvas').width > 100)",
        arg=sequence,
    )
    page.wait_for_timeout(200)
    return found.all()


def drawn(frame: Any) -> str:
    return frame.evaluate("frame => frame.contentDocument.querySelector('canvas').toDataURL()")


def settle(page: Any, before: list[str], views: list[Any]) -> list[str]:
    """What the frames show once both have changed."""
    for _ in range(50):
        after = [drawn(view) for view in views]
        if all(a != b for a, b in zip(after, before, strict=True)):
            return after
        page.wait_for_timeout(50)
    raise AssertionError("a viewer did not follow")


def test_it_fits_the_screen_and_its_tables_scroll_within_themselves(page):
    frames(page)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    wide = page.evaluate("[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)")
    assert page.viewport_size["width"] > 1000 or max(wide) > 0


def test_reference_and_prediction_move_together_by_mouse_and_keys(page):
    views = frames(page)
    shown = [drawn(view) for view in views]
    assert shown[0] != shown[1]
    for number, view in enumerate(views):
        canvas = view.content_frame.locator("canvas")
        box = canvas.bounding_box()
        canvas.click(position={"x": box["width"] * (0.45 + 0.1 * number), "y": box["height"] * 0.4})
        shown = settle(page, shown, views)
    view.content_frame.locator("canvas").press("ArrowUp")
    moved = settle(page, shown, views)
    view.content_frame.locator("canvas").press("ArrowDown")
    assert settle(page, moved, views) == shown


def test_the_other_sequence_shows_the_same_place(page):
    views = frames(page)
    before = drawn(views[0])
    page.locator(".viewer").first.get_by_label("T1ce").check()
    others = frames(page, "t1ce")
    assert not views[0].is_visible() and others[0].is_visible()
    assert drawn(others[0]) != before
    page.locator(".viewer").first.get_by_label("FLAIR").check()
    assert drawn(frames(page)[0]) == before


def test_a_viewer_begins_at_the_tumour(page):
    """The crosshair's middle lies where the reference has paint: the canvas is not grey around it."""
    page_of_frame = frames(page)[0]
    hues = page_of_frame.evaluate(
        """frame => {
            const canvas = frame.contentDocument.querySelector("canvas");
            const [x, y] = JSON.parse(frame.closest(".viewer").dataset.points)[0];
            const side = 24;
            const left = Math.round(x * canvas.width - side / 2), top = Math.round(y * canvas.height - side / 2);
            const data = canvas.getContext("2d").getImageData(left, top, side, side).data;
            let painted = 0;
            for (let i = 0; i < data.length; i += 4) {
                const [r, g, b] = data.slice(i, i + 3);
                const cross = r < 40 && g < 40 && b > 150;
                if (!cross && Math.max(r, g, b) - Math.min(r, g, b) > 20) painted += 1;
            }
            return painted / (side * side);
        }"""
    )
    assert hues > 0.3


def test_scores_are_read_and_sorted(page, report):
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
    assert page.locator("table.sortable tbody tr").count() == 3
    assert page.locator(".panels img").count() == 3 * 8
    context.close()
