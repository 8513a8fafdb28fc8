import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Daemon, Run


def test_a_running_daemon_is_asked(gw: Run, daemon: Daemon):
    assert gw("rules", "add", "a", "--to", "local:demo").code == 0
    assert gw("rules", "list", "--json").json[0]["pattern"] == "a"
    assert daemon.asked == ["rules.add", "rules.list"]


def test_without_a_daemon_the_store_is_opened_here_and_left_for_the_daemon(gw: Run, home: Path):
    gw("rules", "add", "a", "--to", "local:demo")
    with Daemon(home):
        assert gw("rules", "list", "--json").json[0]["pattern"] == "a"
    assert gw("rules", "list", "--json").json[0]["pattern"] == "a"


def test_a_socket_that_a_dead_daemon_left_is_no_daemon(gw: Run, home: Path):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(home / "admin.sock"))
    assert (home / "admin.sock").exists()
    assert gw("rules", "list", "--json").json == []


def test_a_home_whose_path_is_too_long_for_a_socket_s_address(gw: Run, home: Path, tmp_path: Path):
    deep = tmp_path / ("d" * 120)
    assert gw("--home", deep, "rules", "list", "--json").json == []
    here = os.getcwd()  # noqa: PTH109 - the string is compared, not used
    (tmp_path / ("e" * 120)).symlink_to(home)
    with Daemon(home) as daemon:
        assert gw("--home", tmp_path / ("e" * 120), "rules", "list", "--json").json == []
        assert daemon.asked == ["rules.list"]
    assert os.getcwd() == here  # noqa: PTH109


def test_the_daemon_s_refusals_have_the_exit_codes_of_our_own(either: Run):
    assert either("rules", "show", "x").code == 1
    assert either("rules", "add", "a", "--to", "nobody").code == 1
    assert either("policies", "set", "p", "--attempts", "99").code == 1


def test_a_home_that_another_process_owns_without_a_socket_is_refused(gw: Run, home: Path):
    with Daemon(home):
        (home / "admin.sock").rename(home / "hidden.sock")
        told = gw("rules", "list")
        (home / "hidden.sock").rename(home / "admin.sock")
    assert told.code == 1
    assert "is in use by process" in told.error


GONE = "the daemon went away before it answered"


def reply(status: int, body: str) -> bytes:
    data = body.encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(data), data)


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        (b"", 1, GONE),
        (b"nonsense\r\n\r\n", 1, GONE),
        (reply(200, "[{},{}]")[:-1], 1, GONE),
        (reply(200, "<x>"), 1, "answered 200 and something that is not JSON"),
        (reply(500, "[]"), 1, "answered 500 without a reason"),
        (reply(500, '{"error": "no"}'), 1, "answered 500 without a reason"),
        (reply(200, '[{"a":1}]'), 1, "has another form than this version expects"),
        (
            reply(400, '{"error": {"message": "wrong", "kind": "usage"}}'),
            2,
            "wrong (see: mlx-gateway rules list",
        ),
        (reply(400, '{"error": {"message": "wrong", "kind": "config"}}'), 78, "wrong"),
        (reply(503, '{"error": {"message": "the disk\\nis full", "kind": "store"}}'), 1, "the disk is full"),
        (reply(418, '{"error": {"message": "a teapot", "kind": "new one"}}'), 1, "a teapot"),
    ],
)
def test_whatever_a_daemon_answers_is_one_line(gw: Run, home: Path, sent: bytes, code: int, words: str):
    with odd_daemon(home, sent):
        told = gw("rules", "list")
    assert told.code == code
    assert words in told.error


@contextlib.contextmanager
def odd_daemon(home: Path, sent: bytes) -> Iterator[None]:
    """Something on admin.sock that reads one request, sends `sent` and hangs up."""

    def answer() -> None:
        peer, _ = listener.accept()
        with peer:
            data = b""
            while not data.endswith(b"{}"):
                data += peer.recv(65536)
            peer.sendall(sent)

    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(home / "admin.sock"))
        listener.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


def test_a_broken_configuration_is_exit_78_alone_and_no_matter_with_a_daemon(gw: Run, home: Path):
    with Daemon(home):
        (home / "gateway.toml").write_text("[sever]\n")
        assert gw("rules", "list").code == 0
    told = gw("rules", "list")
    assert told.code == 78
    assert f"{home}/gateway.toml: unknown section: 'sever'; did you mean 'server'?" in told.error


def test_what_json_can_t_hold_is_refused_the_same_way_by_both(either: Run):
    told = either("rules", "add", "caf\udce9", "--to", "local:demo")
    assert told.code == 2
    assert "an argument is not UTF-8 text" in told.error
    told = either("upstreams", "set", "x", "--connect-s", "nan")
    assert told.code == 2
    assert "a number must be finite" in told.error
