"""The cases of a report as HTML: at length, slice by slice, and a thumbnail of each. What files say is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from brats3d.files import MODALITY_TITLES
from brats3d.labels import REGIONS_TO_READ
from brats3d.report.case_volumes import Trouble
from brats3d.report.figures import Picture, as_jpeg
from brats3d.report.page import data_uri, figure, legend, listing
from brats3d.report.run_folder import Run
from brats3d.report.viewer import Viewer


@dataclass(frozen=True, eq=False)
class Shown:
    """A case that is shown at length.

    Args:
        rank: ``"best"``, ``"median"`` or ``"worst"``.
        case_id: whose.
        panels: its slice with the most tumour.
        viewers: sequence -> viewer; empty where the case has none.
    """

    rank: str
    case_id: str
    panels: Sequence[Picture]
    viewers: Mapping[str, Viewer]


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A case shown small.

    Args:
        case_id: whose.
        jpeg: reference and prediction of one slice, side by side.
        size: width and height in pixels.
    """

    case_id: str
    jpeg: bytes
    size: tuple[int, int]


def case_sections(
    run: Run, shown: Sequence[Shown], thumbnails: Sequence[Thumbnail], troubles: Sequence[Trouble]
) -> list[tuple[str, str, str]]:
    """The pictures, the viewer and the thumbnails, as far as there are any."""
    general = listing((escape(trouble.text) for trouble in troubles if trouble.case_id is None), "remark")
    if not shown:
        return [("cases", "Cases", general or '<p class="quiet">None of the cases can be shown.</p>')]
    parts = [general, legend(), _SIDES]
    for each in shown:
        panels = "".join(figure(_jpeg(p.pixels), p.alt, escape(p.title), _size(p)) for p in each.panels)
        parts.append(f'{_case_heading(run, each)}<div class="panels">{panels}</div>')
    title = "Best, median and worst case" if len(run.by_case) > 1 else "The case"
    found = [("cases", title, "".join(parts))]
    if viewers := [_viewer(run, each, i) for i, each in enumerate(shown) if each.viewers]:
        how = (
            "Tap or drag in one of the three views, or click it and use the arrow keys: reference and prediction "
            "move together. Voxels are thinned out here; the pictures above and below have all of them."
        )
        found.append(("viewer", "Slice by slice", f"<p>{how}</p>{''.join(viewers)}"))
    if thumbnails:
        few = f" the {len(thumbnails)} worst of {len(run.by_case)} cases," if len(thumbnails) < len(run.by_case) else ""
        lead = (
            f"<p>The slice with the most tumour, the reference first, the prediction beside it;{few} worst first.</p>"
        )
        items = "".join(_thumbnail(run, each, i) for i, each in enumerate(thumbnails))
        found.append(("all-cases", "Every case", f'{lead}{legend()}{_SIDES}<div class="thumbnails">{items}</div>'))
    return found


_SIDES = '<p class="quiet">The patient\'s right is on the left of each picture, anterior is up.</p>'


def _case_heading(run: Run, each: Shown) -> str:
    said = f"{each.rank[:1].upper()}{each.rank[1:]}: {each.case_id}" if len(run.by_case) > 1 else each.case_id
    truly = {"worst": run.ranked[0], "best": run.ranked[-1]}.get(each.rank, each.case_id)
    if truly != each.case_id:
        said += f" (of those that can be shown; the {each.rank} is {truly})"
    return f'<h3>{escape(said)}</h3><p class="quiet">{_dice_line(run, each.case_id)}</p>'


def _dice_line(run: Run, case_id: str) -> str:
    of_region = run.by_case[case_id]
    return "Dice " + ", ".join(f"{region} {of_region[region].dice:.3f}" for region in REGIONS_TO_READ)


def _viewer(run: Run, each: Shown, place: int) -> str:
    """Reference and prediction side by side for each sequence, one of which is to be seen."""
    first = next(iter(each.viewers))
    choices, pairs = "", ""
    for name, viewer in each.viewers.items():
        checked, hidden = (" checked", "") if name == first else ("", " hidden")
        radio = f'<input type="radio" name="sequence-{place}" value="{name}"{checked}>'
        choices += f"<label>{radio} {MODALITY_TITLES[name]}</label>"
        frames = "".join(
            f'<figure><figcaption>{what}</figcaption><iframe loading="lazy" '
            f'title="{what} of {escape(each.case_id)} on {name}, three views" '
            f'style="aspect-ratio:{viewer.ratio:.3f}" srcdoc="{escape(document)}"></iframe></figure>'
            for what, document in (("reference", viewer.reference), ("prediction", viewer.prediction))
        )
        pairs += f'<div class="pair" data-sequence="{name}"{hidden}>{frames}</div>'
    one = each.viewers[first]
    return (
        f'{_case_heading(run, each)}<div class="viewer" data-across="{one.across}" '
        f"data-points='{json.dumps(one.points)}'><fieldset><legend>Sequence</legend>{choices}</fieldset>{pairs}</div>"
    )


def _thumbnail(run: Run, each: Thumbnail, place: int) -> str:
    caption = f"<strong>{escape(each.case_id)}</strong><br>{_dice_line(run, each.case_id)}"
    alt = f"{each.case_id}: reference and prediction in one slice"
    picture = figure(data_uri(each.jpeg, "image/jpeg"), alt, caption, each.size)
    return picture.replace("<figure>", f'<figure id="case-{place}">', 1)


def _jpeg(pixels: np.ndarray) -> str:
    return data_uri(as_jpeg(pixels), "image/jpeg")


def _size(picture: Picture) -> tuple[int, int]:
    height, width = picture.pixels.shape[:2]
    return width, height
