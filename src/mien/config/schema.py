"""Dataclasses from parsed YAML: unknown, missing and out-of-range keys raise MienError with their dotted name."""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from mien.errors import MienError

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The closed interval that a number must lie in."""

    low: float
    high: float


def between(low: float, high: float = float("inf")) -> Range:
    """Limits for a number, as the second part of its `Annotated` type."""
    return Range(low, high)


def build(cls: type[T], tree: Any, place: str) -> T:
    """Build the dataclass `cls` from parsed YAML; raises MienError with a line for each key that does not fit."""
    if not isinstance(tree, Mapping):
        raise MienError(f"{place or 'params.yaml'} is {tree!r}, expected a mapping with keys {_names(cls)}.")
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {spec.name: spec for spec in dataclasses.fields(cls)}  # type: ignore[arg-type]
    known = f"expected one of {_names(cls)}" if fields else "nothing is expected here"
    faults = [f"Unknown key {_join(place, key)}: {known}." for key in tree if key not in fields]
    values = {}
    for name, spec in fields.items():
        if name in tree:
            with _noted(faults):
                values[name] = _convert(hints[name], tree[name], _join(place, name))
        elif spec.default is spec.default_factory is dataclasses.MISSING:
            faults.append(f"Missing key {_join(place, name)} in params.yaml.")
    if faults:
        raise MienError("\n".join(faults))
    return cls(**values)


@contextmanager
def _noted(faults: list[str]) -> Iterator[None]:
    """Notes a MienError and goes on, so that one message tells of all."""
    try:
        yield
    except MienError as error:
        faults.append(str(error))


def _convert(hint: Any, value: Any, place: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _in_range(arguments[1], _convert(arguments[0], value, place), place)
    if origin in (types.UnionType, typing.Union):
        return _convert_union(arguments, value, place)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, place)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(arguments[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    if origin is Mapping and isinstance(value, Mapping):
        return _convert_mapping(arguments[1], value, place)
    return _convert_scalar(hint, value, place)


def _convert_mapping(hint: Any, tree: Mapping[Any, Any], place: str) -> dict[str, Any]:
    values, faults = {}, list[str]()
    for key, item in tree.items():
        with _noted(faults):
            values[str(key)] = _convert(hint, item, _join(place, key))
    if faults:
        raise MienError("\n".join(faults))
    return values


def _convert_scalar(hint: Any, value: Any, place: str) -> Any:
    if hint is float and type(value) in (int, float):
        return float(value)
    chosen = typing.get_origin(hint) is Literal and value in typing.get_args(hint)
    if hint is Any or chosen or type(value) is hint:
        return value
    raise MienError(f"{place} is {value!r}, expected {_describe(hint)}.")


def _convert_union(options: tuple[Any, ...], value: Any, place: str) -> Any:
    for option in options:
        ranged = typing.get_origin(option) is Annotated and type(value) in (int, float)
        if ranged or (dataclasses.is_dataclass(option) and isinstance(value, Mapping)):
            return _convert(option, value, place)  # whose error message is more specific than the union's
        try:
            return None if option is types.NoneType and value is None else _convert(option, value, place)
        except MienError:
            continue
    raise MienError(f"{place} is {value!r}, expected {' or '.join(map(_describe, options))}.")


def _in_range(limits: Range, value: Any, place: str) -> Any:
    if limits.low <= value <= limits.high:
        return value
    limit = f"at least {limits.low:g}"
    if limits.high != float("inf"):
        limit = f"between {limits.low:g} and {limits.high:g}"
    raise MienError(f"{place} is {value!r}, expected a number {limit}.")


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false", types.NoneType: "null"}
    return names.get(hint, "a list" if typing.get_origin(hint) is tuple else "a mapping")


def _names(cls: Any) -> str:
    return ", ".join(f.name for f in dataclasses.fields(cls))


def _join(place: str, key: Any) -> str:
    return f"{place}.{key}" if place else str(key)
