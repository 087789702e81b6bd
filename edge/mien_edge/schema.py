"""Mappings from outside (JSON, TOML) into frozen dataclasses, without guessing.

A key that the dataclass does not know, a missing key of a field without default, a value of
another type and a number that is not finite are errors; each names the key and, for a misspelt
one, its nearest neighbour."""

import dataclasses
import difflib
import functools
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mien_edge.errors import MienError

T = TypeVar("T")
_SCALARS = (str, int, float, bool)


def from_dict(
    cls: type[T], mapping: object, where: str, error: type[MienError], ignore_unknown: bool = False
) -> T:
    """Build the dataclass `cls` from `mapping`; `where` is the dotted place of it in messages.

    ignore_unknown: pass over keys that the dataclass, or a nested one, does not know, instead of
    refusing them. Raises `error` for anything that does not fit, also for what the dataclass
    itself refuses with ValueError."""
    if not isinstance(mapping, Mapping):
        raise error(
            f"{where} must be a table of keys and values, not {mapping!r}; "
            "see the example in the docs"
        )
    hints = _type_hints(cls)  # type: ignore[arg-type]  # mypy takes type[T] for unhashable
    fields = {_key(field): field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if ignore_unknown:
        mapping = {key: value for key, value in mapping.items() if key in fields}
    for key in mapping:
        if key not in fields:
            raise error(f"{where}: unknown key {key!r}{_nearest(str(key), fields)}")
    required = [name for name, field in fields.items() if _required(field)]
    for name in required:
        if name not in mapping:
            raise error(f"{where}: the key {name!r} is missing; add it")
    values = {}
    for key, value in mapping.items():
        field = fields[key]
        values[field.name] = _read_field(
            field, hints[field.name], value, f"{where}.{key}", error, ignore_unknown
        )
    try:
        return cls(**values)
    except ValueError as problem:
        raise error(f"{where}: {problem}") from None


def to_dict(value: Any) -> dict[str, Any]:
    """What `from_dict` reads back to an equal dataclass; nested dataclasses become mappings, tuples
    lists.
    """
    result = {}
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        stored_values = _stored_values(field)
        result[_key(field)] = (
            stored_values.get(content, content) if stored_values else _plain(content)
        )
    return result


def _read_field(
    field: "dataclasses.Field[Any]",
    hint: Any,
    value: object,
    where: str,
    error: type[MienError],
    ignore_unknown: bool,
) -> object:
    stored_values = _stored_values(field)
    if not stored_values:
        return _convert(hint, value, where, error, ignore_unknown)
    choices = {stored_values.get(name, name): name for name in get_args(hint)}
    return choices[_choice(tuple(choices), value, where, error)]


@functools.cache
def _type_hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _plain(content: Any) -> Any:
    if dataclasses.is_dataclass(content):
        return to_dict(content)
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return content


def _key(field: "dataclasses.Field[Any]") -> str:
    """How files call a field: by its name, or by the `key` of its metadata."""
    return str(field.metadata.get("key", field.name))


def _stored_values(field: "dataclasses.Field[Any]") -> dict[str, str]:
    """How files spell the values of a Literal field, by value; empty where they spell them as they
    are.
    """
    return {value: stored for stored, value in field.metadata.get("values", {}).items()}


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _nearest(key: str, known: Mapping[str, object]) -> str:
    matches = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if matches:
        return f"; did you mean {matches[0]!r}?"
    return f"; known keys: {', '.join(known)}"


def _convert(
    hint: Any, value: object, where: str, error: type[MienError], ignore_unknown: bool
) -> Any:
    if hint in _SCALARS:
        return _scalar(hint, value, where, error)
    origin = get_origin(hint)
    arguments = get_args(hint)
    if origin is Literal:
        return _choice(arguments, value, where, error)
    if origin in (Union, types.UnionType):
        return _optional(arguments, value, where, error, ignore_unknown)
    if origin is tuple:
        return _tuple(arguments[0], value, where, error, ignore_unknown)
    if origin is dict:
        return _mapping(arguments[1], value, where, error, ignore_unknown)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where, error, ignore_unknown)  # type: ignore[arg-type]
    return _scalar(hint, value, where, error)


def _optional(
    options: tuple[Any, ...],
    value: object,
    where: str,
    error: type[MienError],
    ignore_unknown: bool,
) -> Any:
    if value is None:
        return None
    inner = next(option for option in options if option is not type(None))
    return _convert(inner, value, where, error, ignore_unknown)


def _tuple(
    item: Any, value: object, where: str, error: type[MienError], ignore_unknown: bool
) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise error(f"{where} must be a list, not {value!r}; change it")
    return tuple(
        _convert(item, element, f"{where}[{index}]", error, ignore_unknown)
        for index, element in enumerate(value)
    )


def _mapping(
    item: Any, value: object, where: str, error: type[MienError], ignore_unknown: bool
) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise error(f"{where} must be a table, not {value!r}; change it")
    return {
        str(key): _convert(item, content, f"{where}.{key}", error, ignore_unknown)
        for key, content in value.items()
    }


def _choice(options: tuple[Any, ...], value: object, where: str, error: type[MienError]) -> Any:
    if value not in options:
        choices = ", ".join(str(option) or '""' for option in options)
        raise error(f"{where} must be one of {choices}, not {value!r}; change it")
    return value


def _scalar(hint: Any, value: object, where: str, error: type[MienError]) -> object:
    if hint is float and type(value) in (int, float):
        number = _finite(value)
        if number is None:
            raise error(f"{where} must be a finite number, not {value!r}; change it")
        return number
    if hint is not Any and type(value) is not hint:
        raise error(f"{where} must be of type {hint.__name__}, not {value!r}; change it")
    return value


def _finite(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
