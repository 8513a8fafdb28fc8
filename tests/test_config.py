import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import config
from gateway.config import Config, Server, load, read
from gateway.errors import ConfigError

EXAMPLE = Path(__file__).parent.parent / "config" / "gateway.example.toml"
MINIMAL = EXAMPLE.with_name("gateway.minimal.toml")
_KEY = re.compile(r"^#(?P<name>[a-z_]+) = (?P<value>.+)$")


def refusal(text: str, env: dict[str, str] | None = None) -> str:
    """The one line that `load` refuses with."""
    with pytest.raises(ConfigError) as caught:
        load(text, env)
    assert "\n" not in caught.value.message
    return caught.value.message


def example_blocks() -> dict[tuple[str, str], tuple[str, str]]:
    """What the example says of each key: (section, key) -> (value, words of the comment above it)."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    section, words = "", []
    for line in EXAMPLE.read_text().splitlines():
        if entry := _KEY.match(line):
            found[section, entry["name"]] = (entry["value"], " ".join(words))
            words = []
        elif line.startswith("#"):
            words.append(line[1:].strip())
        else:
            section = line.strip("[]") or section
            words = []
    return found


def all_keys():
    return [(section, item) for section, items in config.sections().items() for item in items]


# --- the files that we ship --------------------------------------------------------------------------


def test_the_example_shows_every_key_once_and_in_the_order_of_the_code():
    assert list(example_blocks()) == [(section, item.name) for section, item in all_keys()]


@pytest.mark.parametrize(("section", "item"), all_keys(), ids=lambda v: v if isinstance(v, str) else v.name)
def test_the_example_gives_the_code_s_default_reason_and_range(section, item):
    value, words = example_blocks()[section, item.name]
    default = config.default_of(item)
    assert tomllib.loads(f"x = {value}")["x"] == (list(default) if isinstance(default, tuple) else default)
    reason = item.metadata["help"]
    assert words.lower().startswith(f"{reason.lower()}.")
    span = config.range_of(section, item)
    assert span is None or f"({span})" in words


def test_the_example_loads_as_it_is_and_also_with_every_key_uncommented():
    text = EXAMPLE.read_text()
    assert load(text) == Config()
    uncommented = "\n".join(line[1:] if _KEY.match(line) else line for line in text.splitlines())
    assert load(uncommented) == Config()
    parsed = tomllib.loads(uncommented)
    assert sum(map(len, parsed.values())) == len(all_keys())


def test_the_minimal_file_is_ten_lines_that_work():
    text = MINIMAL.read_text()
    assert len(text.splitlines()) == 10
    assert load(text) == Config()


def test_no_shipped_file_holds_a_line_too_long_for_a_terminal():
    for path in (EXAMPLE, MINIMAL):
        assert max(map(len, path.read_text().splitlines())) <= 105


# --- what a person types wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sever]\nport = 1", "unknown section: 'sever'; did you mean 'server'?"),
        ("[qqqqqq]", "unknown section: 'qqqqqq'; known: server, store"),
        ("port = 9000", "unknown section: 'port'; known: "),
        ("[server]\nprot = 1", "unknown key in [server]: 'prot'; did you mean 'port'?"),
        ("[server]\nxyzzy = 1", "unknown key in [server]: 'xyzzy'; known: host, port"),
        ("[server.tls]\ncert = 1", "unknown key in [server]: 'tls'"),
        ("server = 8484", "[server] must be a table of keys, not a whole number"),
        ("[[server]]\nport = 1", "[server] must be a table of keys, not a list"),
        ("[server]\nport = '8484'", "server.port must be a whole number, not '8484'"),
        ("[server]\nport = 84.5", "server.port must be a whole number, not 84.5"),
        ("[server]\nport = true", "server.port must be a whole number, not true"),
        ("[server]\nport = 65536", "server.port must be between 0 and 65535, not 65536"),
        ("[server]\nport = -1", "server.port must be between 0 and 65535, not -1"),
        ("[server]\ndrain_s = nan", "server.drain_s must be between 0 and 3600, not nan"),
        ("[server]\ndrain_s = inf", "server.drain_s must be between 0 and 3600, not inf"),
        ("[server]\ndrain_s = true", "server.drain_s must be a number, not true"),
        ("[server]\nhost = ''", "server.host must be an address or a name, not ''"),
        ("[server]\nhost = 1", "server.host must be a string, not 1"),
        (
            "[server]\nallowed_hosts = 'mac.lan'",
            "server.allowed_hosts must be a list of strings, not 'mac.lan'",
        ),
        ("[server]\nallowed_hosts = [1]", "server.allowed_hosts must be a list of strings, not [1]"),
        ("[server]\nallowed_hosts = ['http://mac']", "must be a lower-case host name or address"),
        ("[server]\nallowed_origins = ['http://mac/']", "must be scheme://host[:port] without a path"),
        ("[server]\nallowed_origins = ['*']", "must be scheme://host[:port] without a path, not '*'"),
        ("[routing]\ndefault_target = ''", "routing.default_target must be local, local:MODEL"),
        ("[routing]\ndefault_target = 'local:'", "routing.default_target must be local, local:MODEL"),
        ("[routing]\ndefault_upstream = 'a:b'", "routing.default_upstream must be an upstream's name"),
        (
            "[secrets]\nsource = 'vault'",
            "secrets.source must be one of file, keychain, systemd, env, not 'vault'",
        ),
        ("[secrets]\nsource = ['file']", "secrets.source must be one of file, keychain, systemd, env"),
        ("[local]\nenabled = 'yes'", "local.enabled must be true or false, not 'yes'"),
        ("[server\nport = 1", "not valid TOML: "),
        ("[server]\nport = 1\nport = 2", "not valid TOML: "),
        (f"[server]\nport = {'9' * 5000}", "not usable TOML: "),
        (f"x = {'[' * 5000}", "not usable TOML: "),
        (f"[server]\nport = {'9' * 400}", "server.port must be between 0 and 65535, not a huge number"),
        (f"[server]\ndrain_s = {'9' * 400}", "server.drain_s must be a number, not a huge number"),
        (f"[secrets]\nsource = '{'x' * 5000}'", "..."),
    ],
)
def test_a_slip_gets_one_line_that_says_what_was_expected(text, words):
    message = refusal(text)
    assert words in message
    assert len(message) < 300


def test_a_whole_number_is_good_enough_for_seconds():
    found = load("[server]\ndrain_s = 5").server.drain_s
    assert found == 5.0
    assert isinstance(found, float)


def test_a_list_becomes_a_tuple_so_that_no_one_changes_it():
    assert load("[local]\npreload = ['demo']").local.preload == ("demo",)


@given(st.text(max_size=80))
def test_no_text_whatever_escapes_as_another_exception(text):
    try:
        load(text)
    except ConfigError as error:
        assert error.message


# --- the environment ---------------------------------------------------------------------------------


def test_a_variable_wins_over_the_file():
    text = "[server]\nport = 1000\nhost = '::1'"
    assert load(text, {"MLX_GATEWAY_SERVER__PORT": "2000"}).server == Server(host="::1", port=2000)


@pytest.mark.parametrize(
    ("variable", "text", "section", "name", "value"),
    [
        ("SERVER__DRAIN_S", "2.5", "server", "drain_s", 2.5),
        ("LOCAL__ENABLED", "false", "local", "enabled", False),
        ("LOCAL__ENABLED", "1", "local", "enabled", True),
        ("LOCAL__MODELS_DIRS", "/a, /b ,", "local", "models_dirs", ("/a", "/b")),
        ("LOCAL__PRELOAD", "", "local", "preload", ()),
        ("SECRETS__SOURCE", "env", "secrets", "source", "env"),
        ("STORE__URL", "postgresql://h/db", "store", "url", "postgresql://h/db"),
    ],
)
def test_every_type_can_be_given_as_a_variable(variable, text, section, name, value):
    found = load("", {f"MLX_GATEWAY_{variable}": text})
    assert getattr(getattr(found, section), name) == value
    assert found == replace(Config(), **{section: replace(getattr(Config(), section), **{name: value})})


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("SERVER__PORT", "eighty", "MLX_GATEWAY_SERVER__PORT must be a whole number, not 'eighty'"),
        ("SERVER__PORT", "", "MLX_GATEWAY_SERVER__PORT must be a whole number, not ''"),
        ("SERVER__PORT", "70000", "MLX_GATEWAY_SERVER__PORT must be between 0 and 65535, not 70000"),
        ("SERVER__DRAIN_S", "nan", "MLX_GATEWAY_SERVER__DRAIN_S must be between 0 and 3600"),
        (
            "SERVER__PROT",
            "1",
            "MLX_GATEWAY_SERVER__PROT: unknown key in [server]: 'prot'; did you mean 'port'?",
        ),
        ("SEVER__PORT", "1", "MLX_GATEWAY_SEVER__PORT: unknown section: 'sever'; did you mean 'server'?"),
        ("LOCAL__ENABLED", "maybe", "MLX_GATEWAY_LOCAL__ENABLED must be true or false, not 'maybe'"),
        ("SECRETS__SOURCE", "x", "MLX_GATEWAY_SECRETS__SOURCE must be one of file, keychain, systemd, env"),
        ("SERVER__ALLOWED_ORIGINS", "http://a/,b", "MLX_GATEWAY_SERVER__ALLOWED_ORIGINS must be scheme://"),
    ],
)
def test_a_bad_variable_is_named_itself_and_not_the_file(variable, text, words):
    assert refusal("", {f"MLX_GATEWAY_{variable}": text}).startswith(words)


def test_variables_that_are_no_keys_are_left_alone():
    env = {"MLX_GATEWAY_HOME": "/x", "MLX_GATEWAY_CONFIG": "/y", "MLX_GATEWAY_MASTER_KEY": "k", "A__B": "c"}
    assert load("", env) == Config()


# --- files -------------------------------------------------------------------------------------------


def test_no_file_means_the_defaults_and_the_environment():
    assert read(None, {"MLX_GATEWAY_SERVER__PORT": "1"}).server.port == 1


def test_an_error_names_the_file_it_stands_in(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text("[server]\nprot = 1")
    with pytest.raises(ConfigError, match=re.escape(f"{path}: unknown key in [server]: 'prot'")):
        read(path, {})
    path.write_text("[server]\nport = 'x'")
    with pytest.raises(ConfigError, match=re.escape(f"{path}: server.port must be a whole number")):
        read(path, {})


def test_a_file_that_cant_be_read_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.toml: the configuration can't be read: No such file"):
        read(tmp_path / "missing.toml", {})
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        read(tmp_path, {})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"[server]\nhost = '\xff'")
    with pytest.raises(ConfigError, match="expected UTF-8 text, but byte 17 is not"):
        read(binary, {})


def test_a_byte_order_mark_is_no_reason_to_refuse(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\nport = 5\n")
    assert read(path, {}).server.port == 5
