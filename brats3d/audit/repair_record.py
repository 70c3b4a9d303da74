"""What a repair did: records of the copy's files and cases."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class RepairedFile:
    """One file of the copy.

    Args:
        file: its place in the copy.
        action: ``"linked"``, ``"copied"`` (where links are not possible) or ``"rewritten"``.
        source: the original.
        findings: what was found in the original.
        changes: what was changed, with counts.
    """

    file: str
    action: str
    source: str
    findings: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RepairedCase:
    """One case of the data set.

    Args:
        case_id: its identifier.
        files: those in the copy; none if the case was left out.
        left_out: why the case is not in the copy; empty if it is.
        repaired: whether leaving it out mends the data set (it is another case's copy).
    """

    case_id: str
    files: tuple[RepairedFile, ...] = ()
    left_out: tuple[str, ...] = ()
    repaired: bool = False


@dataclass(frozen=True)
class Repair:
    """What ``--repair`` did.

    Args:
        out: the copy.
        cases: every case of the data set, those that were left out included.
        notes: what the user should know of the copy, a sentence each.
    """

    out: Path
    cases: tuple[RepairedCase, ...]
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every case that counts is in the copy."""
        return not any(case.left_out and not case.repaired for case in self.cases)

    def summary(self) -> list[str]:
        """What was done, and which cases were left out, in lines for people."""
        actions = Counter(file.action for case in self.cases for file in case.files)
        kept = sum(not case.left_out for case in self.cases)
        counts = ", ".join(f"{n} files {action}" for action, n in actions.items())
        left_out = [f"  left out {case.case_id}: {why}" for case in self.cases for why in case.left_out[:1]]
        return [f"{kept} of {len(self.cases)} cases in {self.out}: {counts}; see {MANIFEST}", *left_out, *self.notes]
