"""Numbers between documents and values: milliseconds and percent there, seconds and fractions here.

Scaling goes through decimals, so that a value that is written and read again is the same to the last bit.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation


def number(text: object) -> Decimal:
    """A finite number, or text that is one. Raises ValueError."""
    if isinstance(text, bool) or not isinstance(text, (int, float, str, Decimal)):
        raise ValueError("a number")
    try:
        value = Decimal(str(text).strip())
    except InvalidOperation:
        raise ValueError("a number") from None
    if not value.is_finite() or abs(value) > 10**18 or value.adjusted() < -330:
        raise ValueError("a finite number")
    return value


def whole(text: object) -> int:
    """A whole number, or text that is one. Raises ValueError."""
    value = number(text)
    if value != value.to_integral_value():
        raise ValueError("a whole number")
    return int(value)


def scaled(value: Decimal, digits: int) -> float:
    """`value` x 10**digits, rounded once to the nearest float."""
    return float(value.scaleb(digits))


def written(value: float, digits: int) -> str:
    """The decimal text of `value` x 10**digits, from which `scaled` gives back exactly `value`."""
    decimal = Decimal(repr(value)).scaleb(digits)
    text = format(decimal, "f") if decimal.adjusted() >= -6 else str(decimal)
    return text.rstrip("0").rstrip(".") if "." in text and "E" not in text else text


def plain(text: str) -> int | float | str:
    """Decimal text as a JSON number where that loses nothing, else the text."""
    value = Decimal(text)
    if value == value.to_integral_value():
        return int(value)
    return float(text) if Decimal(repr(float(text))) == value else text
