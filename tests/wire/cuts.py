"""Ways to cut bytes into chunks: whoever eats chunks must not care where they end."""

from __future__ import annotations

from hypothesis import strategies as st


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces that end at `places`, some of them empty."""
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


places = st.lists(st.integers(0, 10_000), max_size=8)
