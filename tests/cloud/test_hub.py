"""What the hub says becomes a listing, bytes, or one sentence that tells what to do."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cloud.hub import Hub as Client
from gateway.cloud.hub import HubBusyError
from gateway.cloud.repository import RemoteFile, Repository
from gateway.errors import RefusedError
from tests.hub import Fault, Hub

REPO = "org/tiny"
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": bytes(range(256)) * 40}


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    server.reset()
    server.use(monkeypatch, tmp_path)
    return server


@pytest.fixture
def client(hub: Hub) -> Iterator[Client]:
    with Client() as client:
        yield client


@pytest.fixture
def login(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Client]:
    """A client with a token, from either of the places where users keep theirs."""

    def make(token: str, kept: str = "file") -> Client:
        if kept == "variable":
            monkeypatch.setenv("HF_TOKEN", token)
        else:
            (tmp_path / "token").write_text(token)
        return Client()

    return make


def read(client: Client, repository: Repository, name: str, start: int = 0) -> tuple[int, bytes]:
    [file] = [file for file in repository.files if file.path == name]
    with client.body(repository, file, start=start) as body:
        return body.start, b"".join(body.chunks)


def refusal(client: Client, name: str = REPO, revision: str | None = None) -> str:
    with pytest.raises(RefusedError) as caught:
        client.repository(name, revision)
    return caught.value.message


@pytest.mark.parametrize("sizes", [True, False])
def test_a_listing_has_sizes_and_hashes_also_from_a_mirror_that_lists_names(
    hub: Hub, client: Client, sizes: bool
) -> None:
    sha = hub.publish(REPO, FILES)
    hub.sizes = sizes
    found = client.repository(REPO, None)
    assert (found.name, found.revision) == (REPO, sha)
    assert [(f.path, f.size_bytes, f.sha256 is not None) for f in found.files] == [
        ("config.json", 23, False),
        ("model.safetensors", 10240, True),
    ]


def test_a_revision_is_a_branch_or_a_commit(hub: Hub, client: Client) -> None:
    old = hub.publish(REPO, FILES, branch="v1/a")
    new = hub.publish(REPO, {**FILES, "README.md": b""})
    assert client.repository(REPO, "v1/a").revision == client.repository(REPO, old).revision == old
    assert client.repository(REPO, None).revision == new


def test_bytes_come_whole_or_from_where_they_are_wanted(hub: Hub, client: Client) -> None:
    hub.publish(REPO, FILES)
    found = client.repository(REPO, None)
    weights = FILES["model.safetensors"]
    assert read(client, found, "config.json") == (0, FILES["config.json"])
    assert read(client, found, "model.safetensors", 1000) == (1000, weights[1000:])
    hub.fault("model.safetensors", Fault(whole=True))
    assert read(client, found, "model.safetensors", 1000) == (0, weights)


@pytest.mark.parametrize("kept", ["variable", "file"])
def test_a_token_goes_to_the_hub_and_not_to_its_store(
    hub: Hub, login: Callable[..., Client], kept: str
) -> None:
    hub.publish(REPO, FILES)
    hub.gated.add(REPO)
    with login("hf_may_read", kept) as client:
        read(client, client.repository(REPO, None), "model.safetensors")
    assert [(asked.path.split("/")[1], asked.token) for asked in hub.asked] == [
        ("api", "Bearer hf_may_read"),
        ("org", "Bearer hf_may_read"),
        ("store", None),
    ]


def test_a_file_of_another_commit_is_not_taken(hub: Hub, client: Client) -> None:
    hub.publish(REPO, FILES)
    found = client.repository(REPO, None)
    hub.fault("config.json", Fault(headers={"x-repo-commit": "b" * 40}))
    with pytest.raises(RefusedError, match="from another commit"):
        read(client, found, "config.json")


@pytest.mark.parametrize("told", ["bytes 7-9/10240", "bytes */10240", "", "bytes 1000-10239"])
def test_another_part_than_was_asked_for_is_not_taken(hub: Hub, client: Client, told: str) -> None:
    hub.publish(REPO, FILES)
    found = client.repository(REPO, None)
    hub.fault("model.safetensors", Fault(headers={"content-range": told}))
    with pytest.raises(RefusedError, match="another part of a file"):
        read(client, found, "model.safetensors", 1000)


def test_who_is_not_let_in_is_told_how(hub: Hub, client: Client) -> None:
    hub.publish(REPO, FILES)
    hub.private.add("org/secret")
    hub.publish("org/secret", FILES)
    assert "no model org/none on 127.0.0.1" in refusal(client, "org/none")
    assert "or it is private: then give a token with HF_TOKEN" in refusal(client, "org/secret")
    assert refusal(client, REPO, "v9") == "org/tiny has no revision 'v9'"
    hub.gated.add(REPO)
    with pytest.raises(RefusedError, match=rf"is gated: accept its terms at {hub.url}/org/tiny, then give a"):
        read(client, client.repository(REPO, None), "config.json")


def test_a_token_that_is_not_enough(hub: Hub, login: Callable[..., Client]) -> None:
    hub.fault("listing", Fault(401), Fault(403), Fault(403, {"x-error-message": _DISABLED}))
    with login("hf_of_somebody") as client:
        assert "shows no org/tiny to the token that is in use" in refusal(client)
        assert "forbids access to org/tiny; give a token" in refusal(client)
        assert "was disabled" in refusal(client)


def test_a_token_is_not_used_where_the_user_said_so(
    hub: Hub, login: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    hub.publish(REPO, FILES)
    with login("hf_may_read", "variable") as client:
        client.repository(REPO, None)
    assert [asked.token for asked in hub.asked] == [None]


_DISABLED = "Access to this resource is disabled."


def test_a_file_that_is_listed_but_not_there(hub: Hub, client: Client) -> None:
    sha = hub.publish(REPO, FILES)
    with pytest.raises(RefusedError, match="lists a file of org/tiny that it does not have"):
        read(client, Repository(REPO, sha, (RemoteFile("gone.json", 1),)), "gone.json")


@pytest.mark.parametrize(
    ("fault", "wait_s"),
    [
        (Fault(500), None),
        (Fault(503, {"retry-after": "7"}), 7.0),
        (Fault(429, {"retry-after": "0"}), 0.0),
        (Fault(429, {"retry-after": "soon"}), None),
        (Fault(408), None),
    ],
)
def test_what_may_pass_says_so(hub: Hub, client: Client, fault: Fault, wait_s: float | None) -> None:
    hub.publish(REPO, FILES)
    hub.fault("listing", fault)
    with pytest.raises(HubBusyError, match=f"answered {fault.status}") as caught:
        client.repository(REPO, None)
    assert caught.value.wait_s == wait_s


def test_a_long_rest_is_not_waited_for(hub: Hub, client: Client) -> None:
    hub.fault("listing", Fault(429, {"retry-after": "3600"}), Fault(418))
    assert "wants 3600 s of rest; try again then" in refusal(client)
    assert refusal(client).endswith("refused with status 418")


def test_a_connection_that_breaks_may_be_better_in_a_moment(hub: Hub, client: Client) -> None:
    hub.publish(REPO, FILES)
    found = client.repository(REPO, None)
    hub.fault("model.safetensors", Fault(cut=100))
    with pytest.raises(HubBusyError, match=r"the connection to 127\.0\.0\.1:[0-9]+ was lost"):
        read(client, found, "model.safetensors")


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>", b"[]", b"{}", b'{"id": "x"}', b'{"id": "x", "sha": "../../x", "siblings": []}',
        b'{"id": "x", "sha": 5, "siblings": [{"rfilename": 5}]}',
        json.dumps({"id": "x", "sha": "a" * 40, "siblings": [{"rfilename": "a.json", "size": -1}]}).encode(),
        json.dumps({"id": "x", "sha": "a" * 40, "siblings": [{"rfilename": "a.json", "size": True}]}).encode(),
        json.dumps({"id": "x", "sha": "a" * 40, "siblings": [{"rfilename": 7, "size": 1}]}).encode(),
        json.dumps({"id": "x", "sha": "a" * 40, "siblings": [
            {"rfilename": "a", "size": 1, "lfs": {"size": 1, "sha256": "../x", "pointerSize": 1}}]}).encode(),
    ],
)  # fmt: skip
def test_an_answer_of_something_else_than_a_hub(hub: Hub, client: Client, answer: bytes) -> None:
    hub.fault("listing", Fault(200, content=answer))
    assert "not a hub's listing; check HF_ENDPOINT" in refusal(client)


def test_a_hub_that_is_not_there(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with Client() as client, pytest.raises(HubBusyError, match=r"can't reach 127\.0\.0\.1:.* online"):
            client.repository(REPO, None)


@pytest.mark.parametrize("url", ["ftp://hub", "http://:0x", "http://h:0x", "hub", "http://[::1"])
def test_an_address_that_is_none(hub: Hub, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", url)
    with pytest.raises(RefusedError, match="HF_ENDPOINT is not an address such as https://"):
        Client()


def test_a_name_and_password_in_the_address_are_not_repeated(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://me:canary@127.0.0.1:9")
    with Client() as client:
        assert "canary" not in refusal(client) + client.host


def test_a_token_that_is_none_is_not_repeated(login: Callable[..., Client], tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="the hub's token is none") as caught:
        login("hf_canary\u20ac", "variable")
    assert "canary" not in caught.value.message
    (tmp_path / "token").write_bytes(b"\xff")
    with pytest.raises(RefusedError, match="token can't be read from"):
        login("", "variable")


def test_offline_by_the_users_wish(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal(client)


@pytest.mark.parametrize("leads_to", ["config.json", "ftp://127.0.0.1/config.json"])
def test_a_file_that_is_led_in_circles_or_to_nowhere(hub: Hub, client: Client, leads_to: str) -> None:
    hub.publish(REPO, FILES)
    found = client.repository(REPO, None)
    hub.fault("config.json", Fault(302, {"location": leads_to}, times=99))
    with pytest.raises(RefusedError, match=r"can't ask 127\.0\.0\.1:[0-9]+ \((TooManyRed|Unsupported)"):
        read(client, found, "config.json")
