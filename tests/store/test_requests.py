"""What is kept of a request, whatever stands in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.store import requests
from tests.store.make import DONE

COLUMNS = requests._COLUMNS
ANY = st.text(st.characters(exclude_categories=()), max_size=40)


@given(ANY, ANY, ANY)
def test_any_text_stays_in_its_own_column(path: str, model: str, broken: str) -> None:
    row = requests.row(1.0, DONE._replace(path=path, model=model, broken=broken, client="laptop"))
    kept = dict(zip(COLUMNS, row, strict=True))
    assert (kept["client"], kept["method"], kept["served_by"]) == ("laptop", "POST", "openai/gpt-4o")
    for text in kept.values():
        if isinstance(text, str):
            assert "\0" not in text
            text.encode()
    if path.isalnum() and path.isascii():
        assert kept["path"] == path


def test_a_key_is_starred_out_wherever_it_stands() -> None:
    key = "sk-proj-0123456789abcdef"
    row = requests.row(
        1.0, DONE._replace(model=key, path=f"/v1/{key}", broken=f"invalid key {key}\nof yours")
    )
    kept = dict(zip(COLUMNS, row, strict=True))
    assert (kept["model"], kept["path"], kept["broken"]) == ("***", "/v1/***", "invalid key *** of yours")
    assert kept["attempts"] == DONE.trace
