"""Amounts of resources as Kubernetes writes them: `100m`, `0.5`, `64Mi` are numbers.

Source: apimachinery's resource.Quantity.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

_DECIMAL_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_FACTORS = {
    **{letter: Decimal(10) ** power for letter, power in _DECIMAL_POWERS.items()},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}


def parse_quantity(value: Any) -> Decimal:
    """The number that a quantity is, exactly."""
    written = str(value)
    unit = written.lstrip("+-0123456789.")
    if unit in _FACTORS:
        return Decimal(written.removesuffix(unit)) * _FACTORS[unit]
    return Decimal(written)
