"""How figures are printed: medians, and ratios of one round each with their least and largest."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan


def quantile(values: Sequence[float], share: float) -> float:
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratio(over: Sequence[float], under: Sequence[float]) -> str:
    """Of pairs that were measured side by side: the median, and from where to where they go."""
    found = [a / b for a, b in zip(over, under, strict=True) if b]
    if not found:
        return "n/a"
    return f"{median(found):6.2f}x [{min(found):.2f}-{max(found):.2f}]"


def ms(values: Sequence[float]) -> str:
    return f"{1000 * median(values):8.1f} ms"


def title(text: str) -> None:
    print(f"\n{text}", flush=True)


def row(name: str, *cells: str) -> None:
    print(f"  {name:30}" + "  ".join(cells), flush=True)
