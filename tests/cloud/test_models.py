from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cloud.models import Page, read_models
from tests import canned


def test_both_dialects_and_bare_lists() -> None:
    assert read_models(canned.dump(canned.openai_models(["a", "b/c"]))) == Page(("a", "b/c"))
    assert read_models(canned.dump(canned.anthropic_models(["a"]))) == Page(("a",))
    assert read_models(b'[{"id": "together"}, {"name": "x"}, 3]') == Page(("together",))


def test_more_pages_are_told_and_quoted() -> None:
    assert read_models(canned.dump(canned.anthropic_models(["a&b"], has_more=True))) == Page(
        ("a&b",), "a%26b"
    )
    assert read_models(b'{"data": [], "has_more": true, "last_id": null}') == Page(())


@pytest.mark.parametrize("junk", [b"", b"<html>", b"{}", b'{"data": {}}', b"null", b"\xff"])
def test_junk_is_no_list(junk: bytes) -> None:
    assert read_models(junk) is None


@given(st.binary())
def test_no_bytes_make_it_raise(data: bytes) -> None:
    read_models(data)
