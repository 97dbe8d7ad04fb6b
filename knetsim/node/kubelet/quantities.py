"""Kubernetes' quantities as exact numbers: `64Mi`, `250m`, `1e3`; pure. Source: apimachinery's pkg/api/resource."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

_UNITS = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1), "k": Fraction(10**3),
    "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18),
} | {f"{letter}i": Fraction(2 ** (10 * power)) for power, letter in enumerate("KMGTPE", 1)}  # fmt: skip
_QUANTITY = re.compile(r"^([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)([A-Za-z]*)$")


def read_quantity(text: Any) -> Fraction:
    """The number that a quantity stands for; ValueError when it is none."""
    match = _QUANTITY.match(str(text))
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is no quantity")
    return Fraction(match[1]) * _UNITS[match[2]]


def parse_quantity(text: Any) -> int:
    """Bytes of `64Mi`, `1.5G`, `1e6` …, rounded up; the object was checked when it was stored."""
    return math.ceil(read_quantity(text))


def divide_quantity(quantity: Any, divisor: Any, *, milli: bool = False) -> int:
    """How often the divisor fits, rounded up as the downward API does. A divisor of 0 is 1.

    Both are whole numbers first, of thousandths with `milli`.
    """
    scale = 1000 if milli else 1
    parts = read_quantity(divisor or 0)
    whole = math.ceil(read_quantity(quantity) * scale)
    return math.ceil(Fraction(whole, math.ceil((parts or Fraction(1)) * scale)))
