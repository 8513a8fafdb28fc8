"""Base URLs: one spelling for each, and none that would carry a key to the wrong place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import RefusedError
from gateway.store.urls import base_url


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com/", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1//", "https://api.openai.com/v1"),
        ("HTTPS://API.OpenAI.com:443/v1", "https://api.openai.com/v1"),
        ("https://host:8443/openai/v1", "https://host:8443/openai/v1"),
        ("https://gateway.example.com/v1beta/openai", "https://gateway.example.com/v1beta/openai"),
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434/v1"),
        ("http://localhost:1234/v1", "http://localhost:1234/v1"),
        ("http://llm.localhost/v1", "http://llm.localhost/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
        ("http://[::ffff:127.0.0.1]", "http://127.0.0.1/v1"),
        ("http://127.0.0.1:80", "http://127.0.0.1/v1"),
    ],
)
def test_one_spelling_and_no_warning(text: str, normal: str) -> None:
    url = base_url(text)
    assert (url.text, url.warning) == (normal, None)
    assert base_url(url.text) == url


@pytest.mark.parametrize(
    "text",
    [
        "http://10.0.0.2:8000/v1",
        "http://192.168.1.4",
        "http://172.20.0.1",
        "http://169.254.1.1",
        "http://100.64.3.2",  # a tailnet
        "http://[fd00::1]/v1",
        "http://mini.local:8484/v1",
        "http://nas.lan",
        "http://mini/v1",
    ],
)
def test_clear_text_inside_the_house_is_a_warning(text: str) -> None:
    warning = base_url(text).warning
    assert warning is not None
    assert "can read the key" in warning


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://api.openai.com/v1", "in clear text"),
        ("http://8.8.8.8/v1", "in clear text"),
        ("http://[2001:4860:4860::8888]/v1", "in clear text"),
        ("http://[::ffff:8.8.8.8]/v1", "in clear text"),
        ("ftp://host/v1", "must begin with https://"),
        ("api.openai.com/v1", "must begin with https://"),
        ("", "must begin with https://"),
        ("https:///v1", "no valid host"),
        ("https://", "no valid host"),
        ("https://user@host/v1", "user name or password"),
        ("https://user:hunter2@host/v1", "user name or password"),
        ("https://host/v1?api-version=1", "query"),
        ("https://host/v1?", "query"),
        ("https://host/v1#x", "fragment"),
        ("https://host/v 1", "space"),
        ("https://host\\@evil/v1", "backslash"),
        ("https://host/v1\n", "character"),
        ("https://hÖst/v1", "character"),
        ("https://host/../v1", "path"),
        ("https://host/a/./v1", "path"),
        ("https://host/%2e%2e/v1", "path"),
        ("https://host//v1/x", "path"),
        ("https://host:0/v1", "port 0"),
        ("https://host:99999/v1", "can't be read"),
        ("https://host:abc/v1", "can't be read"),
        ("https://[::1/v1", "can't be read"),
        ("https://0.0.0.0/v1", "no single host"),
        ("https://[::]/v1", "no single host"),
        ("https://224.0.0.1/v1", "no single host"),
        ("https://1.2.3/v1", "no valid host"),
        ("https://0x7f.1/v1", "no valid host"),
        ("https://-host/v1", "no valid host"),
        ("https://a..b/v1", "no valid host"),
        ("https://host/v1/chat/completions", "one endpoint"),
        ("https://host/v1/messages/", "one endpoint"),
    ],
)
def test_what_is_refused_and_why(text: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why) as caught:
        base_url(text)
    assert "hunter2" not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"https?://[ -~]{0,40}", fullmatch=True))
def test_any_text_is_normalised_for_good_or_refused(text: str) -> None:
    try:
        url = base_url(text)
    except RefusedError:
        return
    assert base_url(url.text) == url
    assert not url.text.endswith("/")
    assert url.text.startswith(("https://", "http://"))
