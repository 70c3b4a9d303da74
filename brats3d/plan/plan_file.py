"""Write a plan as a config that people can edit, and as text for the terminal."""

from __future__ import annotations

import textwrap
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from brats3d.files import write_owned
from brats3d.plan.make_plan import TrainingPlan


def write_plan(path: str | Path, plan: TrainingPlan, command: str) -> Path:
    """Write the plan as an overlay on train.yaml, a knob and its reason per line.

    Args:
        path: the YAML file. A later plan replaces it only if it was not edited.
        plan: the plan.
        command: the command that trains with it.

    Raises:
        ChangedFileError: if the file exists and is not what brats3d wrote.
    """
    heading = f"Settings proposed by brats3d plan on {date.today()}. Edit them, then train:\n\n  {command}\n"
    facts = [f"Data: {plan.data}.", f"Machine: {plan.machine}.", *_duration(plan)]
    comment = [*heading.splitlines(), *(line for fact in facts for line in textwrap.wrap(fact, 118))]
    lines = [f"# {line}".rstrip() for line in comment]
    lines += ["", *(f"{_entry(name, c.value)}  # {c.reason}" for name, c in plan.knobs.items())]
    content = "\n".join([*lines, ""]).encode()
    return write_owned(path, lambda file: file.write(content))


def plan_text(plan: TrainingPlan) -> str:
    """Return the facts, a line per knob, and the expected duration."""
    rows = [(f"{name} {_flow(choice.value)}", choice.reason) for name, choice in plan.knobs.items()]
    width = max(len(setting) for setting, _ in rows)
    lines = [f"{setting:{width}}  {reason}" for setting, reason in rows]
    return "\n".join([f"data: {plan.data}", f"machine: {plan.machine}", "", *lines, "", *_duration(plan)])


def _duration(plan: TrainingPlan) -> list[str]:
    seconds = plan.seconds
    run = f"Expected: {format_seconds(seconds.run)} for one fold"
    if plan.data.folds > 1:
        run += f", {format_seconds(plan.data.folds * seconds.run)} for {plan.data.folds} folds one after another"
    parts = [
        f"{format_seconds(seconds.start)} before the first epoch",
        f"{format_seconds(seconds.epoch)} per epoch",
        f"{format_seconds(seconds.validation)} per validation",
    ]
    return [f"{run}.", f"That is {', '.join(parts)}."]


def format_seconds(seconds: float) -> str:
    """Format a duration with two significant digits, such as ``48 s``, ``3.2 minutes`` or ``14 hours``."""
    for size, unit in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            number = seconds / size
            return f"{number:.1f} {unit}" if number < 9.95 else f"{number:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def _entry(name: str, value: Any) -> str:
    return f"{_flow(name)}: {_flow(value)}"


def _flow(value: Any) -> str:
    """Format a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
