"""Kubernetes resource quantities (``500m``, ``2Gi``, ``1e3``) as exact decimals.

The grammar is that of ``k8s.io/apimachinery/pkg/api/resource``: a signed decimal number followed by a decimal SI
suffix, a binary suffix or a decimal exponent. The operator's image has no generated Kubernetes client, so this is
the small part of it that is needed here; the tests compare it with the official client's ``parse_quantity``.
"""

from __future__ import annotations

import decimal
import re
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_FORM: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,3})?")
_CONTEXT: Final = decimal.Context(prec=60)


def parse(value: Any) -> Decimal:
    """The quantity as a number of base units (cores, bytes, devices). Accepts numbers, as YAML may hold them.

    Raises :class:`ValueError` naming the text for anything that is no quantity.
    """
    text = str(value).strip()
    found = None if isinstance(value, bool) else _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a Kubernetes quantity (examples: 2, 500m, 1.5, 4Gi)")
    number, suffix = Decimal(found[1]), found[2] or ""
    if suffix in _BINARY:
        return _CONTEXT.multiply(number, Decimal(1024) ** _BINARY[suffix])
    exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    return _CONTEXT.scaleb(number, exponent)


def parse_or_zero(value: Any) -> Decimal:
    """Like :func:`parse`, but absent or malformed is zero; for sums in status, where validation tells the user."""
    if value is None:
        return Decimal(0)
    try:
        return parse(value)
    except ValueError:
        return Decimal(0)


def ceil(value: Decimal) -> int:
    """Rounded up to a whole number, as ``Quantity.Value()`` does: 500m of a core is one whole core to Ray."""
    return int(value.to_integral_value(rounding=ROUND_CEILING))


def format_decimal(value: Decimal) -> str:
    """Canonical text in decimal units: ``2``, ``1500m``. Finer than a thousandth is rounded up."""
    milli = ceil(_CONTEXT.scaleb(value, 3))
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def format_binary(value: Decimal) -> str:
    """Canonical text in the largest binary unit that divides it: ``8Gi``, ``1536Mi``, ``1000``. Rounded up to bytes."""
    whole = ceil(value)
    for suffix, power in sorted(_BINARY.items(), key=lambda item: -item[1]):
        unit = 1024**power
        if whole and whole % unit == 0:
            return f"{whole // unit}{suffix}"
    return str(whole)
