"""What a result depends on, as a text: objects with their parameters, the code behind them, and versions."""

from __future__ import annotations

import ast
import enum
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import re
import sys
import sysconfig
import types
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

VERSIONED = frozenset({"monai", "torch", "numpy", "nibabel"}) | sys.stdlib_module_names
"""Packages whose code is known by its version; of any other the source is part of the fingerprint."""


def fingerprint(value: Any) -> str:
    """A text that is the same for equal values in any process, and another for any other value.

    Objects are described by their classes, the source of the packages of those, and their attributes. What cannot be
    seen: global variables that a program changes while it runs, and modules that are imported by a computed name.

    Raises:
        ValueError: if something has no such text: a lambda, a function with a closure, an object in itself, or what has
            content that is not in attributes, such as a subclass of ``list`` or whatever is not made of Python.
        TypeError, RuntimeError: from an object that does not let itself be looked at.
    """
    return json.dumps(_describe(value, ()))


def digest(*parts: str | bytes) -> str:
    """Twenty hexadecimal digits of the SHA-256 of the parts."""
    return hashlib.sha256(b"\n".join(p if isinstance(p, bytes) else p.encode() for p in parts)).hexdigest()[:20]


_OWN = __name__.split(".")[0]


def _describe(value: Any, above: tuple[int, ...]) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if id(value) in above:
        raise ValueError(f"{type(value).__name__} refers to itself")
    inner = functools.partial(_describe, above=(*above, id(value)))
    kind = type(value)
    if kind in (float, complex, bytes) or isinstance(value, torch.dtype | torch.device | np.dtype | np.generic):
        if isinstance(value, np.generic):
            _check_dtype(value.dtype)
        return [_name(kind), repr(value)]
    if kind in (list, tuple, torch.Size):
        return [kind.__name__, [inner(v) for v in value]]
    if kind is slice:
        return ["slice", inner((value.start, value.stop, value.step))]
    if kind in (set, frozenset):
        return [kind.__name__, sorted(json.dumps(inner(v)) for v in value)]
    if kind in (dict, types.MappingProxyType):
        return [_name(kind), sorted(json.dumps([inner(k), inner(v)]) for k, v in value.items())]
    if kind is OrderedDict:
        return [_name(kind), [[inner(k), inner(v)] for k, v in value.items()]]
    if isinstance(value, enum.Enum):
        return [_name(kind), value.name]
    if isinstance(value, np.ndarray | torch.Tensor):
        more = inner(getattr(value, "__dict__", {}))  # MetaTensor's meta
        return [_name(kind), str(value.dtype), list(value.shape), hashlib.sha256(_bytes(value)).hexdigest(), more]
    if isinstance(value, re.Pattern):
        return ["pattern", inner(value.pattern), value.flags]
    if isinstance(value, PurePath):
        return [_name(kind), str(value)]
    if kind is functools.partial:
        return ["partial", inner(value.func), inner(value.args), inner(value.keywords), inner(vars(value))]
    if inspect.ismethod(value):
        return ["method", inner(value.__self__), inner(value.__func__)]
    if isinstance(value, types.FunctionType):
        if value.__closure__:
            raise ValueError(f"{value.__module__}.{value.__qualname__} is a function with a closure (a decorator's?)")
        return ["named", _name(value), inner(vars(value))]
    if isinstance(value, types.BuiltinFunctionType | types.MethodWrapperType):
        owner = value.__self__
        if owner is not None and not inspect.ismodule(owner) and not inspect.isclass(owner):
            raise ValueError(f"{value.__qualname__} is bound to a {type(owner).__name__}")
    if inspect.isclass(value) or inspect.isroutine(value):
        return ["named", _name(value)]
    return [[_name(c) for c in kind.__mro__[:-1]], inner(_attributes(value))]


def _bytes(array: np.ndarray | torch.Tensor) -> bytes:
    """The values as they lie in memory, of any dtype and device."""
    if isinstance(array, np.ndarray):
        _check_dtype(array.dtype)
        return np.asarray(array).tobytes()
    plain = array.detach().as_subclass(torch.Tensor).cpu().resolve_conj().resolve_neg()
    return plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _check_dtype(dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise ValueError("an array of objects has no bytes of its own")


def _attributes(value: Any) -> dict[str, Any]:
    """What an object's ``__dict__`` and slots hold.

    Raises:
        ValueError: if it may hold more.
    """
    kind = type(value)
    if kind is object or not all(map(_made_of_python, kind.__mro__[:-1])):
        raise ValueError(f"{kind.__module__}.{kind.__qualname__} is not made of Python, or has such content")
    found = {}
    for c in kind.__mro__[:-1]:
        slots = {name: v for name, v in vars(c).items() if isinstance(v, types.MemberDescriptorType)}
        if missing := set(_slot_names(c)) - set(slots):
            raise ValueError(f"{c.__module__}.{c.__qualname__} has slots that are hidden: {', '.join(sorted(missing))}")
        for name, slot in slots.items():
            with suppress(AttributeError):  # never set
                found[f"{c.__qualname__}.{name}"] = slot.__get__(value)
    return {**found, **getattr(value, "__dict__", {})}


def _made_of_python(kind: type) -> bool:
    """Whether a ``class`` statement made it; a type made in C has its methods, or its ``__new__``, from there."""
    in_c = types.WrapperDescriptorType | types.MethodDescriptorType
    return not (
        any(isinstance(v, in_c) for v in vars(kind).values())
        or isinstance(vars(kind).get("__new__"), types.BuiltinFunctionType)
    )


def _slot_names(kind: type) -> list[str]:
    slots = vars(kind).get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    own = kind.__name__.lstrip("_")
    mangled = [f"_{own}{n}" if own and n.startswith("__") and not n.endswith("__") else n for n in names]
    return [n for n in mangled if n not in ("__dict__", "__weakref__")]


def _name(thing: Any) -> list[str]:
    """Where a class or function is found, and a digest of the code there."""
    module, name = getattr(thing, "__module__", None) or "builtins", thing.__qualname__
    if "<" in name:
        raise ValueError(f"{module}.{name} is not at the top of its module")
    top = module.split(".")[0]
    if top in VERSIONED or top == _OWN:  # the latter is part of _versions
        return [module, name]
    try:
        return [module, name, _code_digest(top)]
    except (OSError, ImportError) as error:
        raise ValueError(f"{module}.{name} has no source") from error


@functools.cache
def _code_digest(top: str) -> str:
    """Of a top-level module or package: the version, if it is installed; else all its source, and what that imports."""
    parts, seen, left = [], {top}, [top]
    while left:
        name = left.pop()
        files = _source_files(name, needed=name == top)
        if files and _installed(files[0][1]):
            parts.append(f"{name} {_version_of(name)}")
            continue
        for place, file in files:
            content = file.read_bytes()
            parts.append(f"{name} {place} {hashlib.sha256(content).hexdigest()}")
            for other in sorted(_imported(content) - VERSIONED - {_OWN} - seen) if file.suffix == ".py" else ():
                seen.add(other)
                left.append(other)
    return digest(*sorted(parts))


def _source_files(name: str, needed: bool) -> list[tuple[str, Path]]:
    """(place within, file) of a module or package, compiled parts included; none where there is no such module.

    Raises:
        ImportError: if it is needed.
    """
    module = sys.modules.get(name)
    spec = None
    if module is None:
        with suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(name)
    folders = list(getattr(module, "__path__", None) or getattr(spec, "submodule_search_locations", None) or ())
    single = getattr(module, "__file__", None) or getattr(spec, "origin", None)
    if not folders:
        if single and os.path.isfile(single):  # noqa: PTH113 - origin may be "built-in"
            return [(name, Path(single))]
        if needed:
            raise ImportError(f"{name} has no file")
        return []
    return [
        (file.relative_to(folder).as_posix(), file)
        for folder in folders
        for file in sorted(Path(folder).rglob("*"))
        if file.suffix in (".py", ".so", ".pyd") and file.is_file()
    ]


def _installed(file: Path) -> bool:
    """Whether it lies where pip puts packages; one that is edited in its place does not."""
    return any(file.is_relative_to(sysconfig.get_path(name)) for name in ("purelib", "platlib"))


def _version_of(name: str) -> str:
    for distribution in (name, *importlib.metadata.packages_distributions().get(name, ())):
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"{distribution} {importlib.metadata.version(distribution)}"
    raise ImportError(f"{name} has no version")


def _imported(source: bytes) -> set[str]:
    """Top-level names of what a module imports, anywhere in it."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):  # a template, or another Python's
        return set()
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.split(".")[0] for name in plain | froms}
