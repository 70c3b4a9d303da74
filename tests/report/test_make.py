"""The report of a run: one file that stands alone, whatever the run's files hold or lack."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch.utils.tensorboard import SummaryWriter

from brats3d import cli
from brats3d.cases.search import find_cases
from brats3d.data.label_transforms import labels_to_regions
from brats3d.errors import DataError
from brats3d.evaluation.case_scores import score_case
from brats3d.evaluation.measures import MEASURES
from brats3d.evaluation.score_files import write_scores
from brats3d.evaluation.score_rows import ScoreRow
from brats3d.files.nifti_writing import write_segmentation
from brats3d.labels import BRATS2020, MODALITIES, REGION_COLOURS, REGIONS, REGIONS_TO_READ, get_convention
from brats3d.phantoms.releases import write_phantoms
from brats3d.report import make as report
from brats3d.report.case_volumes import CaseFiles, load_volumes
from brats3d.report.figures import draw_curves, outlined, thumbnail
from brats3d.report.make import make_report
from brats3d.report.run_folder import find_failures, read_run, repeat_lines
from brats3d.report.viewer import make_viewer

HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """The elements of a page and of the documents within its frames, with the text of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inner: list[Page] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self._inside: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if "srcdoc" in found:
            self.inner.append(Page(found["srcdoc"]))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag in ("script", "style"):
            (self.scripts if tag == "script" else self.styles).append("")
        if tag not in _VOID:
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self._inside:
            self.scripts[-1] += data
        elif "style" in self._inside:
            self.styles[-1] += data
        else:
            self.text += data
            if self._inside and {"td", "th"} & set(self._inside):
                self.tables[-1][-1][-1] += data

    def everything(self) -> Iterator[Page]:
        yield self
        for page in self.inner:
            yield from page.everything()

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


_VOID = {"img", "input", "link", "meta", "br", "hr", "path", "col", "source"}


def predict(label: np.ndarray, number: int) -> np.ndarray:
    """Right, moved by a voxel or two, without ET's label, nothing."""
    pred = np.roll(label, number, axis=0)
    if number == 2:
        pred = np.where(pred == 4, 1, pred)
    return np.zeros_like(pred) if number == 3 else pred


def regions_of(label: np.ndarray) -> torch.Tensor:
    return labels_to_regions(torch.from_numpy(np.ascontiguousarray(label))[None], BRATS2020)


def build_run(root: Path, cases: int = 4, layout: str = "brats2020") -> Path:
    """A data set of phantoms and the folder of a run that was trained and evaluated on it."""
    write_phantoms(root / "data", cases, seed=1, size="small", setting="plain", layout=layout, progress=False)
    run, rows = root / "run", []
    for number, case in enumerate(find_cases(root / "data", require_label=True)):
        stored = np.asarray(nib.load(case.label).dataobj)
        translation = get_convention(case.convention).translate_to(BRATS2020)
        label = np.vectorize(translation.get, otypes=[np.uint8])(stored)
        pred = predict(label, number)
        path = run / "segmentations" / f"{case.case_id}.nii.gz"
        write_segmentation(path, pred, case.images["flair"])
        rows += score_case(regions_of(pred), regions_of(label), case.case_id, (1, 1, 1))
    write_scores(run / "metrics.json", rows, mean_dice=0.5, epoch=7)
    write_settings(run, dataset_dir=str(root / "data"))
    with SummaryWriter(str(run / "tensorboard")) as writer:
        for step in range(1, 6):
            writer.add_scalar("train_loss", 1 / step, step)
            for tag in ("val_mean_dice", "val_dice_wt", "val_dice_tc", "val_dice_et"):
                writer.add_scalar(tag, step / 6, step)
    card = {"modalities": list(MODALITIES), "network_def": {"class": "monai.networks.nets.unet.UNet"}, "epoch": 7}
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.json").write_text(json.dumps(card))
    return run


def write_settings(run: Path, **settings: Any) -> None:
    default = {"datalist": None, "fold": 0, "modalities": list(MODALITIES), "label_convention": None, "epochs": 50}
    (run / "settings.json").write_text(json.dumps({**default, **settings}))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and its report, that no test changes."""
    run = build_run(tmp_path_factory.mktemp("built"))
    make_report(run, progress=False)
    return run


@pytest.fixture(scope="module")
def html(built: Path) -> str:
    return (built / "report.html").read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture
def run_dir(built: Path, tmp_path: Path) -> Path:
    """A copy to change; the data set stays where it is."""
    return shutil.copytree(built, tmp_path / "run", ignore=shutil.ignore_patterns("report", "report.html"))


@pytest.fixture
def data_dir(built: Path, tmp_path: Path) -> Path:
    """A copy of the data set to change."""
    return shutil.copytree(built.parent / "data", tmp_path / "moved")


def read_page(run: Path, **options: Any) -> Page:
    return Page(make_report(run, progress=False, **options).read_text())


def pictured(page: Page) -> set[str]:
    """The cases of which there is a thumbnail."""
    alts = [image["alt"] for image in page.all("img")]
    return {alt.split(":")[0] for alt in alts if "reference and prediction in one slice" in alt}


# --- the page


def test_nothing_leaves_the_page(page):
    assert len(page.inner) == 8  # reference and prediction, on two sequences, of two cases
    for each in page.everything():
        for tag, attributes in each.elements:
            for name in ("src", "href", "xlink:href", "data", "poster", "action", "srcset", "background"):
                if name in attributes:
                    inside = attributes[name].startswith(("data:", "#"))
                    assert inside, (tag, attributes[name][:80])
            assert "url(" not in attributes.get("style", "")
        for style in each.styles:
            assert "@import" not in style and "url(" not in style
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_links_within_the_page_lead_somewhere(page):
    names = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    targets = {link["href"][1:] for link in page.all("a")}
    assert targets and targets <= names


def test_who_cannot_see_or_has_a_phone_can_read_it(page):
    assert page.all("html")[0]["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    images = [image for each in page.everything() for image in each.all("img")]
    assert len(images) > 20 and all(image.get("alt") for image in images)
    assert all(frame["title"] for frame in page.all("iframe"))
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_it_says_what_it_is_and_in_the_regions_colours(page, html):
    assert "Research only. Not a medical device." in page.text
    assert "UNet" in page.text and "after epoch 7" in page.text and "torch" in page.text
    assert all(colour in html for colour in REGION_COLOURS.values())


def test_the_score_table_holds_the_numbers_of_the_summary(page, built):
    summary = json.loads((built / "metrics.json").read_text())["summary"]
    found = {(row[0], row[1]): row[2:] for row in page.tables[0][1:]}
    assert len(found) == 3 * 7
    for region in REGIONS_TO_READ:
        for measure, spread in summary[region]["measures"].items():
            mean, sd, median, quartiles = found[region, MEASURES[measure].title]
            digits = len(mean.partition(".")[2])
            wanted = [spread[key] for key in ("mean", "sd", "median", "q1", "q3")]
            shown = [float(text) for text in (mean, sd, median, *quartiles.split(" to "))]
            assert shown == pytest.approx(wanted, abs=0.51 * 10**-digits)


def test_every_case_stands_in_the_table_with_its_own_numbers(page, built):
    rows = read_run(built).by_case
    table = {line[0]: line[1:] for line in page.tables[1][2:]}
    assert list(table) == list(rows) and len(rows) == 4
    for case_id, of_region in rows.items():
        keys = ("dice", "hd95_mm", "ref_volume_ml", "pred_volume_ml")
        wanted = [of_region[region].value(key) for key in keys for region in REGIONS_TO_READ]
        assert [float(text) for text in table[case_id]] == pytest.approx(wanted, abs=0.06)


def test_the_figures_lie_beside_it_as_png(built):
    names = {file.name for file in (built / "report").iterdir()}
    assert names >= {"best.png", "median.png", "worst.png", "dice.png", "hd95_mm.png", "lesion_dice.png"}
    for name in names:
        assert imread(built / "report" / name).shape[0] > 200


def test_it_is_small(built):
    assert (built / "report.html").stat().st_size < 3e6


def test_every_case_is_pictured_and_best_median_and_worst_at_length(page, built):
    ranked = read_run(built).ranked
    assert pictured(page) == set(ranked)
    for rank, case_id in (("Best", ranked[-1]), ("Worst", ranked[0])):
        assert f"{rank}: {case_id}" in page.text
    assert "Median: " in page.text
    alts = [image["alt"] for image in page.all("img")]
    assert sum(alt.startswith(f"{ranked[0]}, axial slice") for alt in alts) == 4 + 4


def test_the_same_run_gives_the_same_charts(built, html, tmp_path):
    again = make_report(built, output=tmp_path / "again.html", progress=False).read_text()
    charts = [image["src"] for image in Page(html).all("img") if "svg" in image["src"][:20]]
    assert len(charts) >= 4
    assert charts == [image["src"] for image in Page(again).all("img") if "svg" in image["src"][:20]]


def test_another_place_for_the_page_takes_its_figures_along(run_dir, tmp_path):
    path = make_report(run_dir, output=tmp_path / "there" / "my.html", progress=False)
    assert path == tmp_path / "there" / "my.html" and (tmp_path / "there" / "my" / "dice.png").is_file()
    assert not (run_dir / "report.html").exists()


def test_of_many_cases_the_worst_are_pictured(run_dir, monkeypatch):
    monkeypatch.setattr(report, "MAX_THUMBNAILS", 2)
    page = read_page(run_dir)
    assert pictured(page) == set(read_run(run_dir).ranked[:2])
    assert "the 2 worst of 4 cases" in page.text


# --- what comes from files


def test_what_files_say_is_never_markup(run_dir, data_dir):
    """A case id, a setting, a card; the case has files of that name, so that every part of the page gets it."""
    hostile = "<b>$x_{$"
    folder = next(data_dir.iterdir())
    for file in list(folder.iterdir()):
        file.rename(folder / file.name.replace(folder.name, hostile))
    segmentations = run_dir / "segmentations"
    (segmentations / f"{folder.name}.nii.gz").rename(segmentations / f"{hostile}.nii.gz")
    scores = run_dir / "metrics.json"
    scores.write_text(scores.read_text().replace(folder.name, hostile))
    folder.rename(data_dir / hostile)
    write_settings(run_dir, dataset_dir=str(data_dir), label_convention="brats2020", seed=f'{HOSTILE}"')
    (run_dir / "checkpoints" / "best.json").write_text(json.dumps({"device": HOSTILE, "commit": "'\"><img src=x>"}))
    text = make_report(run_dir, progress=False).read_text()
    page = Page(text)
    assert HOSTILE in page.text and hostile in page.text and hostile in pictured(page)
    assert HOSTILE not in text and not page.all("b")
    assert len(page.scripts) == 1 and all(image["src"].startswith("data:") for image in page.all("img"))


def test_a_case_that_is_no_file_name_is_not_looked_for(run_dir):
    scores = run_dir / "metrics.json"
    name = read_run(run_dir).ranked[0]
    scores.write_text(scores.read_text().replace(name, f"../{HOSTILE}"))
    page = read_page(run_dir)
    assert "not in" in page.text and f"../{HOSTILE}" in page.text and len(pictured(page)) == 3


def test_without_segmentations_it_says_which_command_makes_them(run_dir):
    shutil.rmtree(run_dir / "segmentations")
    page = read_page(run_dir)
    assert f"brats3d evaluate {read_run(run_dir).settings['dataset_dir']} --output {run_dir}" in page.text
    assert "there are no segmentations" in page.text
    assert not pictured(page) and not page.all("iframe") and (run_dir / "report" / "dice.png").is_file()


def test_a_case_without_a_segmentation_is_named(run_dir):
    name = read_run(run_dir).ranked[0]
    (run_dir / "segmentations" / f"{name}.nii.gz").unlink()
    page = read_page(run_dir)
    assert f"{name}: has no segmentation" in page.text
    assert len(pictured(page)) == 3 and f"Worst: {read_run(run_dir).ranked[1]}" in page.text


def test_a_data_set_that_has_moved_is_named_and_can_be_given(run_dir, data_dir):
    write_settings(run_dir, dataset_dir=str(data_dir.parent / "gone"))
    page = read_page(run_dir)
    assert f"there is no {data_dir.parent / 'gone'}" in page.text and "--dataset-dir" in page.text
    assert not pictured(page)
    assert len(pictured(read_page(run_dir, dataset_dir=data_dir))) == 4


def test_a_pretraining_has_no_data_set_to_show(run_dir):
    (run_dir / "settings.json").write_text(json.dumps({"minutes": 5, "modalities": list(MODALITIES)}))
    page = read_page(run_dir)
    assert "names no dataset_dir" in page.text and "brats3d pretrain --output" in page.text


@pytest.mark.parametrize("suffix", ["flair", "t1", "seg"])
def test_one_damaged_file_costs_its_case_alone(run_dir, data_dir, suffix):
    name = read_run(run_dir).ranked[0]
    file = data_dir / name / f"{name}_{suffix}.nii.gz"
    file.write_bytes(file.read_bytes()[:900])
    page = read_page(run_dir, dataset_dir=data_dir)
    assert f"{name}: {file}: file ends early" in page.text
    assert pictured(page) == set(read_run(run_dir).ranked[0 if suffix == "t1" else 1 :])
    assert f"Worst: {read_run(run_dir).ranked[1]}" in page.text


def test_a_missing_sequence_costs_its_case_alone(run_dir, data_dir):
    name = read_run(run_dir).ranked[0]
    (data_dir / name / f"{name}_t2.nii.gz").unlink()
    page = read_page(run_dir, dataset_dir=data_dir)
    assert f"{name}: lacks t2" in page.text and len(pictured(page)) == 3


def test_files_other_than_those_scored_are_told(run_dir):
    best, worst = read_run(run_dir).ranked[-1], read_run(run_dir).ranked[0]
    folder = run_dir / "segmentations"
    content = json.loads((run_dir / "metrics.json").read_text())
    for row in content["rows"]:
        if row["case_id"] == worst and row["region"] == "WT":
            row["ref_volume_ml"] += 3
    (run_dir / "metrics.json").write_text(json.dumps(content))
    image = nib.load(folder / f"{best}.nii.gz")
    label = np.roll(np.asarray(image.dataobj), 3, axis=0)  # every volume is as it was
    nib.save(nib.Nifti1Image(label, image.affine, image.header), folder / f"{best}.nii.gz")
    page = read_page(run_dir)
    assert f"{best}: its files give" in page.text and f"{worst}: its reference holds" in page.text
    assert len(pictured(page)) == 4


def test_a_datalist_says_where_the_cases_lie(run_dir, data_dir):
    names = sorted(folder.name for folder in data_dir.iterdir())
    items = [
        {"image": [f"{n}/{n}_{m}.nii.gz" for m in MODALITIES], "label": f"{n}/{n}_seg.nii.gz", "fold": i % 2}
        for i, n in enumerate(names)
    ]
    (data_dir / "list.json").write_text(json.dumps({"training": items}))
    write_settings(run_dir, dataset_dir=str(data_dir), datalist=str(data_dir / "list.json"))
    assert pictured(read_page(run_dir)) == set(names)


def test_another_convention_and_orientation_change_no_picture(tmp_path):
    run = build_run(tmp_path, cases=1, layout="brats2023")
    page = read_page(run)
    assert len(pictured(page)) == 1 and "its reference holds" not in page.text
    case = find_cases(tmp_path / "data", require_label=True)[0]
    files = CaseFiles(case, run / "segmentations" / f"{case.case_id}.nii.gz")
    before = load_volumes(files, MODALITIES)
    for path in (*case.files, files.segmentation):
        turned = nib.load(path).as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
        nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine, turned.header), path)
    after = load_volumes(files, MODALITIES)
    for name in ("image", "ref", "pred", "spacing_mm", "start"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name


# --- the run's folder


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*gone; expected the output_dir"):
        make_report(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"metrics\.json: no such file; .*run brats3d evaluate"):
        make_report(tmp_path)


def test_scores_that_cannot_be_right_are_refused(run_dir):
    content = json.loads((run_dir / "metrics.json").read_text())
    content["rows"][1].pop("dice")
    (run_dir / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        make_report(run_dir)
    assert (error.value.subject, error.value.problem) == (str(run_dir / "metrics.json"), "row 1: dice")


@pytest.mark.parametrize("name", ["metrics.json", "settings.json"])
def test_a_damaged_file_of_the_run_is_named(run_dir, name):
    (run_dir / name).write_bytes((run_dir / name).read_bytes()[:40])
    with pytest.raises(ValueError, match=rf"{name}: "):
        make_report(run_dir)


def test_sequences_that_do_not_exist_are_refused(run_dir):
    write_settings(run_dir, modalities=["t9"])
    with pytest.raises(ValueError, match=r"run: modalities: expected .* got \['t9'\]"):
        make_report(run_dir)


@pytest.mark.parametrize("name", ["report.txt", "folder.html"])
def test_an_output_that_is_no_page_is_refused(run_dir, tmp_path, name):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ValueError, match=r"output: expected a file whose name ends in \.html"):
        make_report(run_dir, output=tmp_path / name)


def test_scores_of_a_training_alone_will_do(run_dir):
    content = json.loads((run_dir / "metrics.json").read_text())
    kept = ("case_id", "region", "dice", "ref_volume_ml", "pred_volume_ml")
    content["rows"] = [{key: row[key] for key in kept} for row in content["rows"]]
    (run_dir / "metrics.json").write_text(json.dumps(content))
    shutil.rmtree(run_dir / "tensorboard")
    (run_dir / "settings.json").unlink()
    page = read_page(run_dir)
    assert "no TensorBoard events" in page.text and "what was trained is not known" in page.text
    assert "HD95" not in "".join(page.tables[1][0]) and len(page.tables[1][2]) == 1 + 3 * 3


def test_failures_are_listed_with_the_worst_and_largest_first():
    def row(case_id, region, dice, ref, pred):
        return ScoreRow(case_id=case_id, region=region, dice=dice, ref_volume_ml=ref, pred_volume_ml=pred)

    rows = [
        row("a", "WT", 0.5, 3, 3),  # not below
        row("a", "TC", 0.49, 3, 3),
        row("a", "ET", 1.0, 0, 0),  # empty in both
        row("b", "WT", 0.0, 0, 2),
        row("b", "TC", 0.0, 30, 0),
        row("b", "ET", 0.0, 4, 4),
    ]
    found = [(f.case_id, f.region, f.kind) for f in find_failures(rows)]
    assert found == [("b", "TC", "missed"), ("b", "ET", "poor"), ("b", "WT", "spurious"), ("a", "TC", "poor")]


def test_the_commands_to_repeat_it_name_what_differs_from_the_config(run_dir):
    write_settings(run_dir, dataset_dir="my data", epochs=3, patch_size=[32, 32, 32], roi_size=[32, 32, 32], device="x")
    train, evaluate, again = repeat_lines(read_run(run_dir))
    assert train == f"brats3d train 'my data' --output {run_dir} --epochs 3 --patch_size '[32, 32, 32]'"
    assert evaluate == f"brats3d evaluate 'my data' --output {run_dir} --patch_size '[32, 32, 32]'"
    assert again == f"brats3d report {run_dir}"


def test_the_command_to_evaluate_has_the_knobs_that_choose_cases_and_sequences(run_dir):
    write_settings(run_dir, dataset_dir="d", fold=1, modalities=["t1", "flair"], epochs=3)
    words = shlex.split(read_run(run_dir).evaluate_line)
    assert words[:5] == ["brats3d", "evaluate", "d", "--output", str(run_dir)]
    assert words[5:] == ["--fold", "1", "--modalities", "['t1', 'flair']"]
    write_settings(run_dir, dataset_dir=["a", "b"])
    assert read_run(run_dir).evaluate_line.startswith("python -m monai.bundle run --config_file")
    assert read_run(run_dir).evaluate_line in repeat_lines(read_run(run_dir))


# --- the drawings


def test_curves_are_drawn_where_their_tags_are():
    dice = {f"val_dice_{region.lower()}": [(1, 0.2), (9, 0.8)] for region in REGIONS_TO_READ}
    many = [(step, float("nan") if step == 5 else 1 / step) for step in range(1, 3000)]
    drawn = draw_curves({"train_loss": many, "learning_rate": [(1, 0.1)], **dice, "memory_gib": [(1, 3)]})
    assert list(drawn) == ["train_loss", "learning_rate", "dice_curve"]
    loss = drawn["train_loss"][0].axes[0]
    assert len(loss.lines[0].get_xdata()) == 200  # means of neighbours
    assert drawn["dice_curve"][1].startswith("Dice of WT: 0.2 at iteration 1, 0.8 at iteration 9")
    colours = [line.get_color() for line in drawn["dice_curve"][0].axes[0].lines]
    assert colours == [REGION_COLOURS[region] for region in REGIONS_TO_READ]
    assert draw_curves({}) == {}


def colour_at(pixels: np.ndarray, region: str) -> np.ndarray:
    wanted = [int(REGION_COLOURS[region][i : i + 2], 16) for i in (1, 3, 5)]
    return (pixels == wanted).all(axis=-1)


def test_outlines_leave_what_is_inside_to_be_seen():
    regions = np.zeros((3, 20, 30), np.uint8)  # axes towards L and P
    regions[REGIONS.index("WT"), 4:16, 5:25] = 1
    regions[[REGIONS.index("TC"), REGIONS.index("ET")], 8:12, 10:20] = 1  # one border
    pixels = outlined(np.ones((20, 30)), regions, (1, 1, 1), zoom=10)
    assert pixels.shape == (300, 200, 3)
    for region, box in (("WT", (50, 250, 40, 160)), ("TC", (100, 200, 80, 120)), ("ET", (100, 200, 80, 120))):
        rows, columns = np.nonzero(colour_at(pixels, region))
        found = rows.min(), rows.max(), columns.min(), columns.max()
        assert np.abs(np.subtract(found, box)).max() <= 4, region  # the line's width and the rounded corner
    assert not any(colour_at(pixels, region)[110:190, 90:110].any() for region in REGIONS)


def test_voxels_that_are_no_cubes_keep_their_shape():
    nothing = np.zeros((3, 20, 30), np.uint8)
    assert outlined(np.ones((20, 30)), nothing, (2.0, 1.0, 3.0), zoom=2).shape == (60, 80, 3)


def test_a_thumbnail_has_the_reference_on_the_left():
    ref, pred = np.zeros((2, 3, 8, 6), np.uint8)
    ref[:, 2:4, 2:4] = 1
    pixels = thumbnail(np.ones((8, 6)), ref, pred, (1, 1)).astype(int)
    assert pixels.shape == (6, 18, 3)
    hued = np.ptp(pixels, axis=-1) > 20
    assert hued[2:4, 2:4].all() and hued.sum() == 4
    assert thumbnail(np.ones((8, 6)), ref, pred, (1, 2)).shape == (12, 18, 3)


def test_a_viewer_begins_in_the_tumour_and_fetches_nothing():
    image = np.ones((8, 10, 6))
    ref = np.zeros((3, 8, 10, 6), np.uint8)
    ref[:, 7, 0, 5] = 1  # left, in front, on top
    viewer = make_viewer(image, ref, np.zeros_like(ref), (1, 1, 1), z=5)
    assert viewer.across == 10 + 8 + 8 and viewer.ratio == pytest.approx(26 / 10)
    axial, coronal = viewer.points
    assert axial == pytest.approx((1.0, 0.0))  # the right edge of the last view, at the top
    assert coronal == pytest.approx((18 / 26, 0.2))  # of 10 rows the view has 6, in the middle
    for document in (viewer.reference, viewer.prediction):
        assert not Page(document).all("link") and Page(document).all("canvas")


def test_a_large_volume_is_thinned_out_and_an_empty_one_shown():
    image = np.zeros((130, 12, 12), np.int16)
    nothing = np.zeros((3, *image.shape), np.uint8)
    viewer = make_viewer(image, nothing, nothing, (1, 1, 1), z=6)
    assert viewer.across == 6 + 2 * 65


def test_voxels_that_are_no_cubes_become_cubes_in_the_viewer():
    """20 x 10 x 5 voxels of 1 x 2 x 4 mm are a cube of 20 mm: all views are square, and the tumour is in its place."""
    image, ref = np.ones((20, 10, 5)), np.zeros((3, 20, 10, 5), np.uint8)
    ref[:, 10, 5, 2] = 1
    viewer = make_viewer(image, ref, ref, (1, 2, 4), z=2)
    assert viewer.across == 60 and viewer.ratio == 3
    axial, coronal = viewer.points
    assert axial == pytest.approx(((20 + 20 + 20 * 10 / 19) / 60, 11 / 19))
    assert coronal == pytest.approx(((20 + 20 * 10 / 19) / 60, 1 - 10 / 19))


# --- what is there already


def test_another_page_and_another_folder_are_not_touched(run_dir, tmp_path):
    page = tmp_path / "mine.html"
    page.write_text("<p>mine")
    with pytest.raises(ValueError, match=r"mine.html is there and is no report of brats3d"):
        make_report(run_dir, page, progress=False)
    assert page.read_text() == "<p>mine"
    (tmp_path / "data2").mkdir()
    (tmp_path / "data2" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"data2, where the figures go, holds notes.txt"):
        make_report(run_dir, tmp_path / "data2.html", progress=False)


def test_figures_of_an_earlier_report_go_with_it(run_dir):
    make_report(run_dir, progress=False)
    assert (run_dir / "report" / "best.png").is_file()
    shutil.rmtree(run_dir / "segmentations")
    make_report(run_dir, progress=False)
    assert not (run_dir / "report" / "best.png").exists() and (run_dir / "report" / "dice.png").is_file()


def test_data_that_moved_with_their_datalist_are_found(run_dir, data_dir):
    write_settings(run_dir, dataset_dir="gone", datalist="gone/list.json")
    assert "pass --dataset-dir DIR if they have moved" in read_page(run_dir).text
    assert len(pictured(read_page(run_dir, dataset_dir=data_dir))) == 4


def test_a_folder_that_is_given_and_is_not_there_is_an_error(run_dir, capsys):
    with pytest.raises(FileNotFoundError, match="dataset_dir: there is no"):
        make_report(run_dir, dataset_dir="/nowhere/at/all", progress=False)
    assert cli.main(["report", str(run_dir), "--dataset_dir", "/nowhere/at/all"]) == 1
    assert cli.main(["report", str(run_dir), "--output", "x.txt"]) == 2
    assert "output: expected a file whose name ends in .html" in capsys.readouterr().err


def test_the_command_writes_the_page_and_says_where(run_dir, capsys):
    assert cli.main(["report", str(run_dir)]) == 0
    assert capsys.readouterr().out.strip() == str(run_dir / "report.html")


def test_where_the_worst_cannot_be_shown_the_heading_says_so(run_dir):
    worst = read_run(run_dir).ranked[0]
    (run_dir / "segmentations" / f"{worst}.nii.gz").write_bytes(b"")
    page = read_page(run_dir)
    assert f"(of those that can be shown; the worst is {worst})" in page.text
