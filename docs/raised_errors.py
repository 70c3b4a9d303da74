"""The errors that the code raises, read from its source: their messages and remedies, with … for what varies."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import brats3d

KINDS = ("UsageError", "NotFoundError", "DataError")
VARIES = "…"
ROOT = Path(brats3d.__file__).parent


@dataclass(frozen=True)
class RaisedError:
    """An error that the code raises.

    Args:
        package: the package or the module.
        message: subject and problem, with ``…`` for what varies.
        advice: what the user can do; "" if that varies or follows from the message.
    """

    package: str
    message: str
    advice: str


def raised_errors() -> list[RaisedError]:
    """Return the errors of the package, in the order of its files; those without a fixed word are skipped."""
    found = (error for file in sorted(ROOT.rglob("*.py")) for error in _errors_in(file))
    return list(dict.fromkeys(error for error in found if re.search(r"\w{2}", error.message.partition(":")[2])))


def _errors_in(file: Path) -> Iterator[RaisedError]:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    scope = vars(importlib.import_module(".".join(parts))) if parts[-1] not in ("__init__", "__main__") else {}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        many = isinstance(call.func, ast.Attribute) and call.func.attr == "of_many"
        name = call.func.value if many else call.func
        if not (isinstance(name, ast.Name) and name.id in KINDS and call.args):
            continue
        inside = [f for f in functions if f.lineno <= call.lineno <= (f.end_lineno or 0)]
        text = _Text(scope, inside[-1] if inside else tree)
        given = dict(zip(("subject", "problems", "advice") if many else ("subject", "problem"), call.args))
        given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        said = [text.of(given[key]) for key in ("problem", "problems") if key in given]
        expected = text.of(given["expected"]) if "expected" in given else ""
        said += [f"expected {expected}"] if re.search(r"\w", expected) else []
        message = f"{text.of(given['subject'])}: {'; '.join(filter(None, said))}"
        advice = text.of(given["advice"]) if "advice" in given else ""
        yield RaisedError(".".join(parts[:2]), message, advice if re.search(r"\w{2}", advice) else "")


class _Text:
    """The text of expressions.

    Args:
        scope: the names of the module.
        function: where the expressions are; its assignments are looked up.
    """

    def __init__(self, scope: dict[str, object], function: ast.AST) -> None:
        self.scope = scope
        assigned = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
        self.values = {
            name: [node.value for node in assigned if [t.id for t in node.targets if isinstance(t, ast.Name)] == [name]]
            for name in {t.id for node in assigned for t in node.targets if isinstance(t, ast.Name)}
        }

    def of(self, node: ast.expr) -> str:
        """Return the text of an expression, with ``…`` for parts that vary and `` / `` between alternatives."""
        return re.sub(r"…([\s,]*…)+", VARIES, " ".join(self._of(node).split()))

    def _of(self, node: ast.expr) -> str:
        match node:
            case ast.JoinedStr(values=values):
                return "".join(map(self._of, values))
            case ast.FormattedValue(value=ast.BinOp()):
                return VARIES
            case ast.FormattedValue(value=ast.Name(id=name)) if name in self.values:
                return self._of(node.value)
            case ast.FormattedValue(value=value, format_spec=spec):
                if spec and self._value(value) != VARIES:
                    return self._value(ast.copy_location(ast.JoinedStr([node]), node))
                return self._of(value)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._of(left) + self._of(right)
            case ast.IfExp(body=body, orelse=orelse):
                return " / ".join(dict.fromkeys(filter(None, map(self._of, (body, orelse)))))
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
                return re.sub(r"\{.*?\}", VARIES, text)
            case ast.Name(id=name) if name in self.values:
                values = self.values.pop(name)  # a value that refers to itself varies
                text = " / ".join(dict.fromkeys(filter(None, map(self._of, values))))
                self.values[name] = values
                return text or VARIES
        return self._value(node)

    def _value(self, node: ast.expr) -> str:
        """Return the value of an expression that needs the names of the module only."""
        try:
            value = eval(compile(ast.Expression(node), "", "eval"), {**self.scope, **dict.fromkeys(self.values)})
        except Exception:
            return VARIES
        return str(value) if isinstance(value, (str, int, float)) else VARIES
