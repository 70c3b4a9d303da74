"""Update the table of all ranges in docs/phantoms.md.

python docs/phantom_ranges.py
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from brats3d.phantoms import SETTINGS, Contrasts, Setting

PAGE = Path(__file__).parent / "phantoms.md"
START, END = "<summary>Every range, chance and switch of the settings</summary>\n\n", "\n\n</details>"


def table() -> str:
    """Return every field of Setting and Contrasts as a Markdown table; new-scanner is empty where it equals varied."""
    lines = [f"| | {' | '.join(SETTINGS)} |", "|---|" + "---|" * len(SETTINGS)]
    for kind in (Setting, Contrasts):
        for name in (f.name for f in fields(kind) if f.name != "contrasts"):
            cells = {s: _text(getattr(r if kind is Setting else r.contrasts, name)) for s, r in SETTINGS.items()}
            if cells["new-scanner"] == cells["varied"]:
                cells["new-scanner"] = ""
            lines.append(f"| `{name}` | {' | '.join(cells.values())} |")
    return "\n".join(lines)


def _text(value: tuple[float, float] | float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, tuple):
        return f"{value:g}"
    low, high = value
    return ("off" if high == 0 else f"{low:g}") if low == high else f"{low:g} to {high:g}"


def main() -> None:
    head, _, rest = PAGE.read_text().partition(START)
    _, _, tail = rest.partition(END)
    PAGE.write_text(head + START + table() + END + tail)


if __name__ == "__main__":
    main()
