"""Validation by JSON Schema, in the part of the language that the study's schema uses.

The package runs on machines that have no validator; the tests hold this one against `jsonschema`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Check = Callable[[Any, Any, str], str]
"""Takes a value, what its schema's keyword says and the value's place in the whole; returns what is
wrong with the value, empty for nothing."""

TYPES: dict[str, Callable[[object], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    # 1.0 is an integer to JSON Schema.
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
    ),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
IGNORED = {"$schema", "title", "description", "then", "else"}
"""Keywords that demand nothing of a value by themselves."""


def problem(value: object, schema: dict[str, Any], place: str = "") -> str:
    """Return the first thing that is wrong with `value`, with the field's name; empty for nothing.

    place: the name of the field that `value` is in; empty for the whole.

    Raises ValueError where the schema has a keyword that is not known here.
    """
    for keyword, demand in schema.items():
        if keyword in IGNORED:
            continue
        if keyword == "if":
            branch = schema.get("else" if problem(value, demand) else "then", {})
            reason = problem(value, branch, place)
        elif keyword == "additionalProperties":
            reason = _additional(value, demand, place, set(schema.get("properties", {})))
        elif keyword in CHECKS:
            reason = CHECKS[keyword](value, demand, place)
        else:
            raise ValueError(f"the schema's keyword {keyword!r} is not known")
        if reason:
            return reason
    return ""


def _unless(kind: str, wording: str, test: Callable[[Any, Any], bool]) -> Check:
    """Make a check of values of the type `kind`; `wording` tells how one breaks the rule."""

    def check(value: Any, demand: Any, place: str) -> str:
        if not TYPES[kind](value) or test(value, demand):
            return ""
        return f"{place or 'it'} is {value!r:.40}, {wording} {demand}"

    return check


def _type(value: Any, demand: str | list[str], place: str) -> str:
    names = [demand] if isinstance(demand, str) else demand
    if any(TYPES[name](value) for name in names):
        return ""
    return f"{place or 'it'} is {value!r:.40}, no {' or '.join(names)}"


def _const(value: Any, demand: Any, place: str) -> str:
    return "" if value == demand else f"{place or 'it'} is {value!r:.40}, not {demand!r}"


def _enum(value: Any, demand: list[Any], place: str) -> str:
    return "" if value in demand else f"{place or 'it'} is {value!r:.40}, none of {demand}"


def _not(value: Any, demand: dict[str, Any], place: str) -> str:
    return "" if problem(value, demand) else f"{place or 'it'} is {value!r:.40}"


def _items(value: Any, demand: dict[str, Any], place: str) -> str:
    entries = enumerate(value) if isinstance(value, list) else ()
    reasons = (problem(entry, demand, f"{place}[{number}]") for number, entry in entries)
    return next(filter(None, reasons), "")


def _required(value: Any, demand: list[str], place: str) -> str:
    absent = [name for name in demand if isinstance(value, dict) and name not in value]
    return f"{place or 'it'} has no {', '.join(absent)}" if absent else ""


def _properties(value: Any, demand: dict[str, Any], place: str) -> str:
    entries = value.items() if isinstance(value, dict) else ()
    reasons = (
        problem(entry, demand[name], f"{place}.{name}" if place else name)
        for name, entry in entries
        if name in demand
    )
    return next(filter(None, reasons), "")


def _additional(value: Any, demand: bool | dict[str, Any], place: str, known: set[str]) -> str:
    others = [name for name in value if name not in known] if isinstance(value, dict) else []
    if demand is False and others:
        return f"{place or 'it'} has an unknown {', '.join(others)}"
    if isinstance(demand, dict):
        return _properties(value, dict.fromkeys(others, demand), place)
    return ""


CHECKS: dict[str, Check] = {
    "type": _type,
    "const": _const,
    "enum": _enum,
    "not": _not,
    "minimum": _unless("number", "below", lambda value, bound: value >= bound),
    "maximum": _unless("number", "above", lambda value, bound: value <= bound),
    "exclusiveMinimum": _unless("number", "not above", lambda value, bound: value > bound),
    "minLength": _unless("string", "shorter than", lambda value, least: len(value) >= least),
    "pattern": _unless(
        "string", "not like", lambda value, pattern: re.search(pattern, value) is not None
    ),
    "items": _items,
    "required": _required,
    "properties": _properties,
}
"""The check of each keyword but `if` and `additionalProperties`, which need other keywords too."""
