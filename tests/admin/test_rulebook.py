"""Rule books: all or nothing, twice is once, and what was exported comes back as it was."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gateway
from gateway.admin.operations import Context, run
from gateway.admin.rulebook import read_book, write_book
from gateway.errors import RefusedError
from gateway.failover.ability import Ability
from gateway.failover.policy import DEFAULT, Policy
from gateway.routing.rule import Rule, Target
from gateway.routing.table import RuleTable
from gateway.snapshot import AuthStyle, Snapshot, Spread, Upstream
from gateway.store.store import Store
from gateway.wire.dialect import Dialect
from tests.admin.conftest import Run

EXAMPLE = Path(gateway.__file__).parents[1] / "config" / "rules.example.toml"

BOOK = """
[upstreams.openai]
preset = "openai"

[policies.fast]
first_token_s = 4

[[rules]]
pattern = "gpt-4o*"
to = ["local:tiny", "openai:{model}"]
policy = "fast"
priority = 3
note = "hello"

[[rules]]
pattern = "*"
to = ["local:tiny"]
"""


async def test_the_example_is_taken_by_an_empty_store(do: Run) -> None:
    text = EXAMPLE.read_text()
    done = await do("rules.import", toml=text)
    assert done == {
        "added": 6, "changed": 0, "unchanged": 0, "removed": 0, "policies": 1, "upstreams": 3, "warnings": [],
    }  # fmt: skip
    assert (await do("rules.check"))["findings"] == []
    assert (await do("explain", model="openai/gpt-4.1"))["targets"][0]["target"] == "openai/gpt-4.1"
    private = await do("explain", model="private-qwen3-8b")
    assert private["locality"] == "local-only"
    assert [target["target"] for target in private["targets"]] == ["local/qwen3-8b"]


def test_the_example_shows_every_key() -> None:
    book = tomllib.loads(EXAMPLE.read_text())
    seen = {key for rule in book["rules"] for key in rule}
    assert seen == {"pattern", "to", "priority", "policy", "enabled", "note"}
    described = {key for upstream in book["upstreams"].values() for key in upstream}
    assert described >= {
        "preset",
        "dialect",
        "base_url",
        "auth",
        "headers",
        "connect_s",
        "list_models",
        "note",
        "abilities",
        "spread",
    }


async def test_importing_twice_is_importing_once(do: Run) -> None:
    await do("rules.import", toml=BOOK)
    before = await do("rules.list")
    done = await do("rules.import", toml=BOOK)
    assert (done["added"], done["changed"], done["unchanged"], done["removed"]) == (0, 0, 2, 0)
    assert await do("rules.list") == before


async def test_a_rule_of_the_same_pattern_is_changed_and_others_stay(do: Run) -> None:
    await do("rules.add", pattern="mine", to=["local:tiny"])
    await do("rules.add", pattern="gpt-4o*", to=["local:other"])
    done = await do("rules.import", toml=BOOK)
    assert (done["added"], done["changed"], done["unchanged"], done["removed"]) == (1, 1, 0, 0)
    assert [(rule["id"], rule["pattern"], rule["policy"]) for rule in await do("rules.list")] == [
        (1, "mine", "default"),
        (2, "gpt-4o*", "fast"),
        (3, "*", "default"),
    ]


async def test_replacing_removes_what_stood(do: Run) -> None:
    await do("rules.add", pattern="mine", to=["local:tiny"])
    done = await do("rules.import", toml=BOOK, replace=True)
    assert (done["added"], done["removed"]) == (2, 1)
    assert [rule["pattern"] for rule in await do("rules.list")] == ["gpt-4o*", "*"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("[[rules]]\npattern = 'x'\nto = ['nowhere:x']", "nowhere:x names no known upstream"),
        ("[[rules]]\npattern = 'x'\nto = ['local:x']\npolicy = 'none'", "no policy 'none'"),
        ("[[rules]]\npattern = ''\nto = ['local:x']", "the pattern is empty"),
        ("[[rules]]\npattern = 'x'\nto = [':x']", "rule 'x': target ':x' names no backend"),
        (
            "[[rules]]\npattern = 'x'\nto = ['local:x']\npriorty = 3",
            r"'rules\[2\]\.priorty' is unknown; did you mean",
        ),
        ("[[rules]]\npattern = 'x'", r"rules\[2\]\.to is missing"),
        ("[policies.slow]\nattempts = 0", "attempts must be between"),
        ("[policies.slow]\nfirst_tokens = 1", "did you mean 'first_token_s'"),
        ("[upstreams.x]\nbase_url = 'http://example.com'", "clear text"),
        (
            "[upstreams.x]\nbase_ulr = 'https://example.com'",
            "'upstreams.x.base_ulr' is unknown; did you mean",
        ),
        ("[upstreams.x]\nsecret = 'sk-1'", "'upstreams.x.secret' is unknown"),
        ("[upstreams.local]\npreset = 'openai'", "the pool"),
        ("[credentials.x]\nsecret = 'sk-1'", "'credentials' is unknown; known: rules, policies, upstreams"),
        ("[[rules]]\npattern = ", "not valid TOML"),
        (f"[policies.slow]\nattempts = {'9' * 5000}", "not valid TOML"),
        (f"x = {'[' * 5000}", "not valid TOML"),
        ("#" * 1_000_001, "at most 1000000"),
    ],
)
async def test_one_wrong_word_and_nothing_was_imported(
    do: Run, context: Context, more: str, why: str
) -> None:
    await do("rules.add", pattern="mine", to=["local:tiny"])
    before = context.store.snapshot
    for replace in (False, True):
        with pytest.raises(RefusedError, match=why):
            await do("rules.import", toml=f"{BOOK}\n{more}\n", replace=replace)
    assert context.store.snapshot is before
    await context.store.reload()
    assert [rule["pattern"] for rule in await do("rules.list")] == ["mine"]
    assert await do("upstreams.list") == []


async def test_importing_does_not_move_an_upstream_that_has_a_secret(do: Run) -> None:
    await do("rules.import", toml=BOOK)
    await do("credentials.add", upstream="openai", secret="sk-0123456789abcdef")
    with pytest.raises(RefusedError, match="sealed"):
        await do("rules.import", toml="[upstreams.openai]\nbase_url = 'https://evil.example.com/v1'")
    assert (await do("rules.import", toml=BOOK))["unchanged"] == 2


async def test_what_was_exported_is_what_was_there(do: Run, context: Context, tmp_path: Path) -> None:
    await do("rules.import", toml=EXAMPLE.read_text())
    await do("policies.set", name="default", knobs={"attempts": 2, "on": ["slow", "overloaded"]})
    await do("rules.add", pattern="odd[[]x]", to=["local:tiny"], note='say "ö" \\ € 🙂', enabled=False)
    exported = (await do("rules.export"))["toml"]
    other = await Store.open(context.config, tmp_path / "other")
    try:
        there = Context(store=other, home=tmp_path, config=context.config, actor="owner")
        await run(there, "rules.import", {"toml": exported})
        assert other.snapshot.rules.rules == context.store.snapshot.rules.rules
        assert other.snapshot.policies == context.store.snapshot.policies
        assert other.snapshot.upstreams == context.store.snapshot.upstreams
    finally:
        await other.close()


PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=12)
NAMES = st.from_regex(r"[a-z][a-z0-9._-]{0,8}", fullmatch=True).filter(
    lambda name: name != "local" and ".." not in name
)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Rule,
            id=st.just(0),
            pattern=PRINTABLE.filter(bool),
            targets=st.lists(
                st.builds(Target, NAMES, st.none() | PRINTABLE.filter(bool)), min_size=1, max_size=3
            ).map(tuple),
            policy=PRINTABLE,
            priority=st.integers(-1_000_000, 1_000_000),
            enabled=st.booleans(),
            note=PRINTABLE,
        ),
        max_size=4,
    ),
    st.dictionaries(
        NAMES,
        st.builds(
            Upstream,
            name=st.just(""),
            dialect=st.sampled_from(Dialect),
            base_url=PRINTABLE,
            auth=st.sampled_from(AuthStyle),
            headers=st.dictionaries(PRINTABLE, PRINTABLE, max_size=2).map(lambda table: tuple(table.items())),
            connect_s=st.floats(0.05, 60),
            note=PRINTABLE,
            abilities=st.lists(
                st.builds(
                    Ability,
                    pattern=PRINTABLE,
                    context=st.none() | st.integers(1, 10**6),
                    tools=st.none() | st.booleans(),
                ),
                max_size=2,
            ).map(tuple),
            spread=st.sampled_from(Spread),
        ),
        max_size=2,
    ),
    st.floats(0.05, 3600).filter(lambda seconds: seconds != DEFAULT.idle_s),  # only what was set is written
)
def test_any_state_is_written_so_that_it_reads_the_same(
    rules: list[Rule], upstreams: dict[str, Upstream], seconds: float
) -> None:
    book = read_book(
        write_book(
            Snapshot(
                rules=RuleTable(rules),
                upstreams=upstreams,
                policies={"p.1": Policy(name="p.1", idle_s=seconds)},
            )
        )
    )
    assert list(book.rules) == rules
    assert book.policies == {"p.1": {"idle_s": seconds}}
    assert list(book.upstreams) == list(upstreams)
    for name, entry in book.upstreams.items():
        assert (entry.base_url, entry.note) == (upstreams[name].base_url, upstreams[name].note)
        assert entry.headers == dict(upstreams[name].headers)
        assert entry.connect_s == upstreams[name].connect_s
