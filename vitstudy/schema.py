"""A JSON value against a JSON Schema, for the part of the language that the study's schema uses.

The package runs on machines that have no validator; the tests hold this one against `jsonschema`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

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
SILENT = {"$schema", "title", "description", "then", "else"}
"""Keywords that say nothing about a value by themselves."""


def problem(value: object, schema: dict, place: str = "") -> str:
    """What is wrong with `value`, the first thing found, by the name of the field; else empty.

    Raises ValueError where the schema has a keyword that is not known here.
    """
    for keyword, given in schema.items():
        if keyword in SILENT:
            continue
        if keyword == "if":
            branch = schema.get("else" if problem(value, given) else "then", {})
            found = problem(value, branch, place)
        elif keyword in CHECKS:
            found = CHECKS[keyword](value, given, place, schema)
        else:
            raise ValueError(f"the schema's keyword {keyword!r} is not known")
        if found:
            return found
    return ""


def _type(value, given, place: str, schema: dict) -> str:
    names = [given] if isinstance(given, str) else given
    if any(TYPES[name](value) for name in names):
        return ""
    return f"{place or 'it'} is {value!r:.40}, no {' or '.join(names)}"


def _unless(test: Callable[[object, object], bool], kind: str, words: str):
    """A check of the values of the type `kind`; `words` tell the rule that is broken."""

    def check(value, given, place: str, schema: dict) -> str:
        if not TYPES[kind](value) or test(value, given):
            return ""
        return f"{place or 'it'} is {value!r:.40}, {words} {given}"

    return check


def _not(value, given, place: str, schema: dict) -> str:
    return "" if problem(value, given) else f"{place or 'it'} is {value!r:.40}"


def _items(value, given, place: str, schema: dict) -> str:
    inside = enumerate(value) if isinstance(value, list) else ()
    found = (problem(each, given, f"{place}[{number}]") for number, each in inside)
    return next(filter(None, found), "")


def _required(value, given, place: str, schema: dict) -> str:
    absent = [name for name in given if isinstance(value, dict) and name not in value]
    return f"{place or 'it'} has no {', '.join(absent)}" if absent else ""


def _properties(value, given, place: str, schema: dict) -> str:
    inside = value.items() if isinstance(value, dict) else ()
    found = (
        problem(each, given[name], f"{place}.{name}" if place else name)
        for name, each in inside
        if name in given
    )
    return next(filter(None, found), "")


def _additional(value, given, place: str, schema: dict) -> str:
    known = schema.get("properties", {})
    others = [name for name in value if name not in known] if isinstance(value, dict) else []
    if given is False and others:
        return f"{place or 'it'} has an unknown {', '.join(others)}"
    if isinstance(given, dict):
        return _properties(value, dict.fromkeys(others, given), place, schema)
    return ""


CHECKS = {
    "type": _type,
    "const": lambda value, given, place, schema: (
        "" if value == given else f"{place or 'it'} is {value!r:.40}, not {given!r}"
    ),
    "enum": lambda value, given, place, schema: (
        "" if value in given else f"{place or 'it'} is {value!r:.40}, none of {given}"
    ),
    "not": _not,
    "minimum": _unless(lambda value, given: value >= given, "number", "below"),
    "maximum": _unless(lambda value, given: value <= given, "number", "above"),
    "exclusiveMinimum": _unless(lambda value, given: value > given, "number", "not above"),
    "minLength": _unless(lambda value, given: len(value) >= given, "string", "shorter than"),
    "pattern": _unless(
        lambda value, given: re.search(given, value) is not None, "string", "not like"
    ),
    "items": _items,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
}
