"""The checks before a handler, on requests that were never sent."""

from __future__ import annotations

import hashlib
import time
from types import MappingProxyType
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.errors import RequestError
from gateway.snapshot import ClientKey, Snapshot
from gateway.web.guard import (
    Access,
    authenticate,
    check_host,
    check_media,
    check_origin,
    is_loopback,
    shown_keys,
)


def request(path: str = "/v1/models", *, sockname: object = ("127.0.0.1", 8484), **headers: str):
    transport = Mock()
    transport.get_extra_info.side_effect = lambda name, default=None: (
        sockname if name == "sockname" else default
    )
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request("POST", path, headers=fields, transport=transport)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("example.org", False),
        ("localhost.evil", False),
    ],
)
def test_loopback_is_recognised(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8484", "localhost:8484", "LOCALHOST:8484", "[::1]:8484", "mac.lan", "mac.lan:1"]
)
def test_our_own_names_may_ask(host: str) -> None:
    check_host(request(host=host), ("mac.lan", "mac.lan:1"))


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil",
        "localhost",
        "localhost:80",
        "127.0.0.1:99999",
        "127.0.0.1:8484x",
        "a@localhost:8484",
        "192.168.1.2:8484",
    ],
)
def test_other_names_may_not(host: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_host(request(host=host), ())
    assert caught.value.status == 403


def test_the_address_that_was_connected_to_may_ask() -> None:
    there = request(host="192.168.1.2:8484", sockname=("192.168.1.2", 8484))
    check_host(there, ())
    with pytest.raises(RequestError):
        check_host(request(host="localhost:8484", sockname=("192.168.1.2", 8484)), ())


def test_admin_socket_needs_no_host() -> None:
    check_host(request(host="anything", sockname="/somewhere/admin.sock"), ())


def test_origins_are_refused_unless_allowed_or_our_own() -> None:
    assert check_origin(request(host="localhost:8484"), ()) is None
    assert check_origin(request(host="localhost:8484", origin="http://localhost:8484"), ()) is None
    assert check_origin(request(origin="http://app.local"), ("http://app.local",)) == "http://app.local"
    for headers in ({"origin": "http://evil"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        with pytest.raises(RequestError) as caught:
            check_origin(request(host="localhost:8484", **headers), ())
        assert caught.value.status == 403


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/x+json",
        "multipart/form-data; boundary=x",
    ],
)
def test_media_types_that_a_form_cannot_send(kind: str) -> None:
    assert check_media(request(content_type=kind)) == kind.partition(";")[0].lower()


@pytest.mark.parametrize(
    "headers",
    [{}, {"content_type": "text/plain"}, {"content_type": "application/json", "content_encoding": "gzip"}],
)
def test_other_media_types_are_415(headers: dict[str, str]) -> None:
    with pytest.raises(RequestError) as caught:
        check_media(request(**headers))
    assert caught.value.status == 415


def test_both_ways_to_show_a_key() -> None:
    assert list(shown_keys(request(authorization="Bearer  abc "))) == ["abc"]
    assert list(shown_keys(request(authorization="bearer abc"))) == ["abc"]
    assert list(shown_keys(request(x_api_key="def"))) == ["def"]
    assert list(shown_keys(request(authorization="Bearer abc", x_api_key="def"))) == ["abc", "def"]
    assert list(shown_keys(request(authorization="Basic abc"))) == []
    assert list(shown_keys(request())) == []


def _snapshot(**changes: object) -> Snapshot:
    digest = hashlib.sha256(b"mlxg_right").digest()
    key = ClientKey(**({"id": 1, "name": "app", "digest": digest, "prefix": "mlxg_rig"} | changes))  # type: ignore[arg-type]
    return Snapshot(clients=MappingProxyType({digest: key}))


def test_keyless_loopback_serves_until_a_key_is_defined() -> None:
    assert authenticate(request(), Access.CLIENT, Snapshot(), keyless=True) is None
    assert authenticate(request(), Access.OPEN, _snapshot(), keyless=False) is None
    for access, snapshot, keyless in (
        (Access.CLIENT, Snapshot(), False),
        (Access.ADMIN, Snapshot(), True),
        (Access.CLIENT, _snapshot(), True),
    ):
        with pytest.raises(RequestError) as caught:
            authenticate(request(), access, snapshot, keyless=keyless)
        assert caught.value.status == 401


def test_only_the_right_live_key_opens() -> None:
    right = request(authorization="Bearer mlxg_right")
    key = authenticate(right, Access.CLIENT, _snapshot(), keyless=True)
    assert key is not None
    assert key.name == "app"
    both = request(authorization="Bearer sk-of-another-server", x_api_key="mlxg_right")
    assert authenticate(both, Access.CLIENT, _snapshot(), keyless=True) == key
    assert authenticate(right, Access.CLIENT, _snapshot(expires_at=time.time() + 60), keyless=True)
    for snapshot in (_snapshot(enabled=False), _snapshot(expires_at=time.time() - 1)):
        with pytest.raises(RequestError) as caught:
            authenticate(right, Access.CLIENT, snapshot, keyless=True)
        assert caught.value.status == 401
    with pytest.raises(RequestError):
        authenticate(request(authorization="Bearer mlxg_wrong"), Access.CLIENT, _snapshot(), keyless=True)
    with pytest.raises(RequestError):
        authenticate(request(authorization="Bearer café"), Access.CLIENT, _snapshot(), keyless=True)


def test_admin_needs_admin_rights() -> None:
    shown = request(authorization="Bearer mlxg_right")
    with pytest.raises(RequestError) as caught:
        authenticate(shown, Access.ADMIN, _snapshot(), keyless=True)
    assert caught.value.status == 403
    assert authenticate(shown, Access.ADMIN, _snapshot(admin=True), keyless=True)
