"""Sphinx directives for the reference: tables that are made from the code and the YAML files, so that none is outdated.

``{knobs} train`` lists the knobs of a workflow, ``{findings}`` what ``brats3d audit`` reports, ``{errors}`` the errors.
"""

from __future__ import annotations

import importlib
import re
from itertools import groupby
from textwrap import shorten

from docutils import nodes
from docutils.parsers.rst import Directive
from raised_errors import raised_errors
from sphinx.application import Sphinx

from brats3d.audit.finding_kinds import KINDS
from brats3d.bundle import config_files
from brats3d.config_reader import read_knobs


def table(header: list[str], rows: list[list[str]], code: tuple[int, ...]) -> nodes.table:
    """Return a table; the cells in the columns of ``code`` are set as code."""
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=1) for _ in header]
    head, body = nodes.thead(), nodes.tbody()
    head += _row([nodes.Text(cell) for cell in header])
    for cells in rows:
        texts = [nodes.literal(text=c) if i in code and c else nodes.Text(c) for i, c in enumerate(cells)]
        body += _row(texts)
    group += [head, body]
    return nodes.table("", group, classes=["generated"])


def _row(cells: list[nodes.Node]) -> nodes.row:
    entries = [nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells]
    return nodes.row("", *entries)


class Knobs(Directive):
    """The knobs of a workflow, with the comments of its YAML files."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for name, knobs in groupby(read_knobs(config_files(self.arguments[0])), key=lambda knob: knob.group):
            rows = [[f"--{knob.name}", knob.default, knob.comment] for knob in knobs]
            found += [nodes.rubric("", name)] if name else []
            found.append(table(["knob", "default", "meaning"], rows, code=(0, 1)))
        return found


class Findings(Directive):
    """A table of the findings of ``brats3d audit``."""

    def run(self) -> list[nodes.Node]:
        rows = [[name, kind.severity, kind.advice, kind.repair] for name, kind in KINDS.items()]
        return [table(["finding", "severity", "what to do", "what --repair does"], rows, code=())]


class Errors(Directive):
    """The messages of errors and what to do about them, a table for each package."""

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for package, errors in groupby(raised_errors(), key=lambda error: error.package):
            sentence = re.split(r"[:.](?:\s|$)", importlib.import_module(package).__doc__ or package)[0]
            rows = [[error.message, shorten(error.advice, 250, placeholder=" …")] for error in errors]
            rows.sort(key=lambda row: not row[1])  # those with advice first
            n_columns = 2 if rows[0][1] else 1
            found += [nodes.rubric("", " ".join(sentence.replace("`", "").split()))]
            found.append(table(["message", "what to do"][:n_columns], [row[:n_columns] for row in rows], code=()))
        return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("knobs", Knobs)
    app.add_directive("findings", Findings)
    app.add_directive("errors", Errors)
    return {"parallel_read_safe": True}
