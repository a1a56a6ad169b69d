"""Values out of JSON that a person wrote, each checked where it stands.

`where` names the value in the message: `entry 3.benchmark.mustContain[0]`. Everything wrong is a `MeasurementError`.
"""

from __future__ import annotations

import math

from ray.bench.processes.process import MeasurementError


def read_text(value: object, where: str, largest: int, *, blank: bool = False) -> str:
    """A string of at most `largest` characters; not a blank one unless `blank`."""
    if not isinstance(value, str):
        raise MeasurementError(f"{where} must be a string")
    if not blank and not value.strip():
        raise MeasurementError(f"{where} must not be blank")
    if len(value) > largest:
        raise MeasurementError(f"{where} has {len(value)} characters; at most {largest} are possible")
    return value


def read_whole(value: object, where: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise MeasurementError(f"{where} must be a whole number")
    if not low <= value <= high:
        raise MeasurementError(f"{where} must be from {low} to {high}")
    return value


def read_number(value: object, where: str, low: float | None, high: float | None) -> int | float:
    """A finite number within the bounds that there are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MeasurementError(f"{where} must be a number")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        finite = False
    if not finite:
        raise MeasurementError(f"{where} must be a finite number")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
        raise MeasurementError(f"{where} must be {bounds}")
    return value


def read_flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise MeasurementError(f"{where} must be true or false")
    return value


def read_list(value: object, where: str, largest: int) -> list[object]:
    if not isinstance(value, list):
        raise MeasurementError(f"{where} must be an array")
    if len(value) > largest:
        raise MeasurementError(f"{where} has {len(value)} entries; at most {largest} are possible")
    return value


def read_object(value: object, where: str, largest: int, longest_key: int) -> dict[str, object]:
    if not isinstance(value, dict):
        raise MeasurementError(f"{where} must be an object")
    if len(value) > largest:
        raise MeasurementError(f"{where} has {len(value)} entries; at most {largest} are possible")
    for key in value:
        if not 1 <= len(key) <= longest_key:
            raise MeasurementError(f"{where} has a key of {len(key)} characters; 1 to {longest_key} are possible")
    return value
