"""The HTML page is complete, self-contained, accessible, and safe for any content of a run's files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from brats3d.evaluation.score_rows import ScoreRow
from brats3d.evaluation.summary import MEASURES, summarise
from brats3d.labels import REGION_COLOURS, REGIONS_TO_READ
from brats3d.postprocessing import COMPARED, MeanScores, PostprocessingChoice, PostprocessingValues, RegionRules
from brats3d.report.charts import draw_boxes
from brats3d.report.failed_regions import find_failed_regions
from brats3d.report.gallery import ShownCase
from brats3d.report.page import PageContent, format_number, render_page
from brats3d.report.run_results import read_run
from brats3d.report.scored_cases import CaseProblem
from brats3d.report.slices import Picture, case_panels
from brats3d.report.viewer import make_viewer

HOSTILE = "<script>alert(1)</script>\"'><img src=x>"

VOID = {"img", "input", "link", "meta", "br"}


class Page(HTMLParser):
    """The elements of a page, and the text of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def html(built: Path) -> str:
    return (built / "report.html").read_text()


@pytest.fixture(scope="session")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture
def content(built: Path, volumes) -> PageContent:
    """Content with few pictures, which is rendered in a moment."""
    run = read_run(built)
    case_id = run.ranked[0]
    panels = case_panels(volumes, z=3)
    return PageContent(
        run=run,
        facts={"seed": "0"},
        commands=["brats3d train data"],
        failures=find_failed_regions(run.rows),
        problems=[],
        shown=[ShownCase("worst", case_id, panels, make_viewer(volumes, ["flair"], z=3))],
        thumbnails={case_id: Picture(panels[0].pixels, "a thumbnail")},
        boxes={},
        curves={},
    )


def contents_of_links(page: Page) -> Iterator[tuple[str, str]]:
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "data", "poster", "action", "srcset", "background"):
            if name in attributes:
                yield tag, attributes[name]


def test_the_page_requests_nothing(page, html):
    assert all(target.startswith(("data:", "#")) for _, target in contents_of_links(page))
    assert "@import" not in html and "url(" not in html
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "http" not in policy and "script-src 'sha256-" in policy


def test_links_lead_to_elements_of_the_page(page):
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    targets = {link["href"][1:] for link in page.all("a")}
    assert targets and targets <= set(names) and len(set(names)) == len(names)


def test_the_page_is_accessible(page):
    assert page.all("html")[0]["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert len(page.all("img")) > 20 and all(image.get("alt") for image in page.all("img"))
    assert len(page.all("canvas")) == 4 and all(canvas["aria-label"] for canvas in page.all("canvas"))
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_page_describes_the_run_in_the_colours_of_the_regions(page, html):
    assert "Research only. Not a medical device." in page.text
    assert "UNet" in page.text and "after epoch 7" in page.text and "torch" in page.text
    assert all(colour in html for colour in REGION_COLOURS.values())


def test_the_score_table_has_the_numbers_of_the_summary(page, built):
    table = {(row[0], row[1]): row[2:] for row in page.tables[0][1:]}
    assert len(table) == 3 * 7
    for region, summary in summarise(read_run(built).rows).items():
        for measure, spread in summary.measures.items():
            mean, sd, median, quartiles = table[region, MEASURES[measure].title]
            digits = len(mean.partition(".")[2])
            wanted = [spread.mean, spread.sd, spread.median, spread.q1, spread.q3]
            shown = [float(text) for text in (mean, sd, median, *quartiles.split(" to "))]
            assert shown == pytest.approx(wanted, abs=0.51 * 10**-digits)


def test_the_case_table_has_the_numbers_of_every_case(page, built):
    rows = read_run(built).by_case
    table = {line[0]: line[1:] for line in page.tables[1][2:]}
    assert list(table) == list(rows) and len(rows) == 4
    for case_id, of_region in rows.items():
        keys = ("dice", "hd95_mm", "ref_volume_ml", "pred_volume_ml")
        wanted = [of_region[region].value(key) for key in keys for region in REGIONS_TO_READ]
        assert [float(text) for text in table[case_id]] == pytest.approx(wanted, abs=0.06)


def test_every_case_is_pictured_and_best_median_and_worst_at_length(page, built):
    ranked = read_run(built).ranked
    alts = [image["alt"] for image in page.all("img")]
    assert [alt.split(":")[0] for alt in alts if "reference and prediction in one slice" in alt] == ranked
    for rank, case_id in (("Best", ranked[-1]), ("Worst", ranked[0])):
        assert f"{rank}: {case_id}" in page.text
    assert "Median: " in page.text
    assert sum(alt.startswith(f"{ranked[0]}, axial slice") for alt in alts) == 4 + 4


def test_content_of_files_is_escaped(content):
    worst = content.run.ranked[0]
    rows = tuple(replace(row, case_id=HOSTILE) if row.case_id == worst else row for row in content.run.rows)
    settings = {"seed": HOSTILE, "files": {"a": "digest of a file"}}
    run = replace(content.run, rows=rows, settings=settings, remarks=(HOSTILE,))
    (shown,) = content.shown
    text = render_page(
        replace(
            content,
            run=run,
            facts={"seed": HOSTILE},
            commands=[HOSTILE],
            failures=find_failed_regions(rows),
            problems=[CaseProblem(None, HOSTILE), CaseProblem(HOSTILE, HOSTILE)],
            shown=[replace(shown, case_id=HOSTILE)],
            thumbnails={HOSTILE: Picture(shown.panels[0].pixels, HOSTILE)},
        )
    )
    page = Page(text)
    assert page.text.count(HOSTILE) >= 10 and HOSTILE not in text
    assert "digest of a file" not in text
    assert len(page.all("script")) == 1 and all(image["src"].startswith("data:") for image in page.all("img"))


def test_problems_and_remarks_are_listed(content):
    problems = [CaseProblem(None, "no data"), CaseProblem("a", "damaged")]
    page = Page(render_page(replace(content, problems=problems, run=replace(content.run, remarks=("no settings",)))))
    assert "no data" in page.text and "a: damaged" in page.text and "no settings" in page.text


def test_the_heading_says_that_the_worst_case_cannot_be_shown(content):
    worst, next_worst = content.run.ranked[:2]
    page = Page(render_page(replace(content, shown=[replace(content.shown[0], case_id=next_worst)])))
    assert f"Worst: {next_worst} (the worst case, {worst}, cannot be shown)" in page.text


def test_sections_without_content_are_omitted(content):
    page = Page(render_page(replace(content, shown=[], thumbnails={}, failures=[], commands=[])))
    names = {section["id"] for section in page.all("section")}
    assert names == {"run", "scores", "table", "boxes", "failures", "cases", "curves"}
    assert "No case can be shown." in page.text and "No case has" in page.text and "no training curves" in page.text


def test_scores_of_a_validation_without_distances_are_shown(content):
    kept = ("case_id", "region", "dice", "ref_volume_ml", "pred_volume_ml")
    rows = tuple(ScoreRow(**{name: getattr(row, name) for name in kept}) for row in content.run.rows)
    page = Page(render_page(replace(content, run=replace(content.run, rows=rows), boxes=draw_boxes(rows))))
    assert "HD95" not in "".join(page.tables[1][0]) and len(page.tables[1][2]) == 1 + 3 * 3


def test_a_run_of_one_case_has_no_ranks(content):
    rows = tuple(row for row in content.run.rows if row.case_id == content.run.ranked[0])
    page = Page(render_page(replace(content, run=replace(content.run, rows=rows))))
    assert "1 validation case," in page.text and "Worst" not in page.text and "The case" in page.text


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [
        (None, "dice", "-"),
        (0.12345, "dice", "0.123"),
        (0.99987, "specificity", "0.9999"),
        (374.0, "hd95_mm", "374.0"),
        (-0.001, "volume_error_ml", "0.00"),
        (12.345, "ref_volume_ml", "12.3"),
    ],
)
def test_numbers_have_the_digits_of_their_measure(value, measure, text):
    assert format_number(value, measure) == text


def test_chosen_post_processing_is_shown_before_and_after_with_the_values_of_each_fold(content):
    default = PostprocessingValues((0.5, 0.5, 0.5), RegionRules(0.1, 0.1, 0.1))
    chosen = PostprocessingValues((0.5, 0.4, 0.5), RegionRules(1, 0.1, 0.1))
    numbers = {name: 0.1 * (number + 1) for number, name in enumerate(COMPARED)}
    scores = {name: {r: MeanScores(n, n + 0.5) for r in REGIONS_TO_READ} for name, n in numbers.items()}
    choice = PostprocessingChoice(chosen, default, {0: default, 1: chosen}, 12, scores)
    page = Page(render_page(replace(content, run=replace(content.run, postprocessing=choice))))
    (table,) = (table for table in page.tables if table[1][:2] == ["region", "none"])
    assert table[2] == ["WT", "0.100", "0.200", "0.300", "0.600", "0.700", "0.800"]
    (values,) = (table for table in page.tables if table[0][0] == "value")
    assert values[0] == ["value", "default", "chosen", "without fold 0", "without fold 1"]
    assert ["threshold WT", "0.5", "0.4", "0.5", "0.4"] in values and ["min_wt_ml", "0.1", "1", "0.1", "1"] in values
    assert {"id": "postprocessing"} in page.all("section")


def test_without_chosen_post_processing_there_is_no_section_of_it(content):
    assert {"id": "postprocessing"} not in Page(render_page(content)).all("section")
