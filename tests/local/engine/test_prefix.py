"""The prompt cache on real models: with what it gives, a model writes what it writes cold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import KVCache

from gateway.local.engine import layers
from gateway.local.engine.prefix import PrefixCache
from tests.local.engine import tiny

OnMlx = Callable[[Callable[[], Any]], Any]

KEY = "model fingerprint|kv 16"
SAME = 1e-4
LENGTHS = (33, 47, 48, 49, 64, 81, 100, 120)  # around the window, and two more than a window apart
NEXT = tiny.prompt(99, 20)  # what a user says then


def roomy() -> PrefixCache:
    return PrefixCache(max_bytes=1 << 30)


def cut_of(kind: str, kept: int, wanted: int) -> int:
    """How much an entry of `kept` tokens serves when only `wanted` of them are."""
    return wanted if wanted == kept or kept <= tiny.TRIMMABLE.get(kind, 0) else 0


def contents(held: list[Any] | None) -> list[bytes]:
    assert held is not None
    return [bytes(memoryview(array)) for array in layers.arrays(held)]


@pytest.mark.parametrize("kind", tiny.ALL)
@pytest.mark.parametrize("length", [40, 100])
def test_every_use_of_an_entry_writes_what_a_cold_model_writes(on_mlx: OnMlx, kind: str, length: int) -> None:
    """40 tokens are inside the sliding window, so that the cache can still be cut; 100 have turned it round."""

    def work() -> None:
        made, base = tiny.model(kind), tiny.prompt(3, length)
        prefixes = roomy()
        prefixes.keep(KEY, base, tiny.filled(made, base))
        before = contents(prefixes.fetch(KEY, [*base, 1])[0])
        uses = {
            "goes on": ([*base, *NEXT], length),
            "exact repeat": (base, length - 1),
            "shorter": (base[: length - 7], length - 8),
            "another ending": ([*base[: length - 9], (base[length - 9] + 1) % tiny.VOCAB, *NEXT], length - 9),
            "one token more": ([*base, 5], length),
        }
        for name, (prompt, wanted) in uses.items():
            held, covered = prefixes.fetch(KEY, prompt)
            assert covered == cut_of(kind, length, wanted), name
            if held is not None:
                assert tiny.warm(made, prompt, held, covered) == tiny.cold(made, prompt), name
                again, _ = prefixes.fetch(KEY, prompt)
                assert again is not None and tiny.apart(made, prompt, again, covered) < SAME, name
        assert contents(prefixes.fetch(KEY, [*base, 1])[0]) == before, "users have changed the entry"
        assert prefixes.fetch(KEY, tiny.prompt(4, length)) == (None, 0)
        assert prefixes.fetch("another key", [*base, 1]) == (None, 0)

    on_mlx(work)


@pytest.mark.parametrize("kind", tiny.BATCHED)
def test_rows_of_a_batch_are_kept_apart(on_mlx: OnMlx, kind: str) -> None:
    """A release of mlx-lm was withdrawn because it mixed up the caches of a batch's rows.

    Eight prompts of different lengths in one batch, joined and left at different steps; each row's
    cache is kept, and all eight conversations go on from them, alone and as a second batch.
    """

    def work() -> None:
        made = tiny.model(kind)
        prompts = [tiny.prompt(n + 1, length) for n, length in enumerate(LENGTHS)]
        counts = [24, 7, 16, 5, 24, 11, 3, 20]
        first = tiny.batch(made, prompts, counts=counts)
        assert first.out == [tiny.cold(made, p, n) for p, n in zip(prompts, counts, strict=True)]
        prefixes = roomy()
        for held, tokens in [*first.snapshots.values(), *first.ends]:
            prefixes.keep(KEY, tokens, held)

        told = [[*p, *out, *NEXT[: 9 + n]] for n, (p, out) in enumerate(zip(prompts, first.out, strict=True))]
        right = [tiny.cold(made, tokens) for tokens in told]
        for tokens, out, words in zip(told, first.out, right, strict=True):
            held, covered = prefixes.fetch(KEY, tokens)
            assert held is not None and covered >= len(tokens) - len(NEXT) - 1 and covered > len(out)
            assert tiny.warm(made, tokens, held, covered) == words
            held, covered = prefixes.fetch(KEY, tokens)
            assert held is not None and tiny.apart(made, tokens, held, covered) < SAME
        second = tiny.batch(made, told, counts=[24] * 8, held=[prefixes.fetch(KEY, t) for t in told])
        assert second.out == right
        # Again with caches that were themselves taken out of a batch of caches, next to a cold row.
        for held, tokens in second.ends:
            prefixes.keep(KEY, tokens, held)
        told = [[*t, *out, 1, 2, 3] for t, out in zip(told, second.out, strict=True)]
        given = [(None, 0), *[prefixes.fetch(KEY, t) for t in told[1:]]]
        third = tiny.batch(made, told, counts=[6] * 8, held=given)
        assert third.out == [tiny.cold(made, tokens, 6) for tokens in told]

    on_mlx(work)


@pytest.mark.parametrize("kind", tiny.BATCHED)
def test_this_suite_would_see_rows_that_are_mixed_up(on_mlx: OnMlx, kind: str) -> None:
    """Every wrong pairing of a row's tokens with another row's cache is refused, or seen in what is written."""

    def work() -> None:
        made = tiny.model(kind)
        prompts = [tiny.prompt(n + 1, length) for n, length in enumerate((40, 40, 100, 100, 81))]
        ends = tiny.batch(made, prompts, counts=[12] * 5).ends
        for i, (_, tokens) in enumerate(ends):
            told = [*tokens, 1, 2, 3]
            for j, (cache, other) in enumerate(ends):
                mixed = roomy()
                mixed.keep(KEY, tokens, cache)
                held, covered = mixed.fetch(KEY, told)
                if len(other) != len(tokens) and kind != "mamba2":  # it has no layer that knows a length
                    assert held is None
                    continue
                assert held is not None
                off = tiny.apart(made, told, held, covered)
                assert off < SAME if i == j else off > 10 * SAME

    on_mlx(work)


@pytest.mark.parametrize("kind", tiny.BATCHED)
def test_a_repeated_prompt_hits_up_to_its_last_token(on_mlx: OnMlx, kind: str) -> None:
    """The case that killed mlx-lm's server: the prompt, or the prompt and its own answer, comes again."""

    def work() -> None:
        made = tiny.model(kind)
        prompts = [tiny.prompt(n + 1, length) for n, length in enumerate((40, 90))]
        run = tiny.batch(made, prompts, counts=[10, 10])
        prefixes = roomy()
        for held, tokens in [*run.snapshots.values(), *run.ends]:
            prefixes.keep(KEY, tokens, held)
        given = [prefixes.fetch(KEY, tokens) for tokens in prompts]
        assert [covered for _, covered in given] == [39, 89]
        assert tiny.batch(made, prompts, counts=[10, 10], held=given).out == run.out
        told = [[*p, *out] for p, out in zip(prompts, run.out, strict=True)]
        given = [prefixes.fetch(KEY, tokens) for tokens in told]
        # What can't be cut falls back to the snapshot of the prompt.
        wants = [len(t) - 1 if kind == "llama" else at - 1 for t, at in zip(told, (40, 90), strict=True)]
        assert [covered for _, covered in given] == wants
        again = tiny.batch(made, told, counts=[10, 10], held=given)
        assert again.out == [tiny.cold(made, tokens, 10) for tokens in told]

    on_mlx(work)


def test_what_a_batch_gives_back_says_what_it_holds(on_mlx: OnMlx) -> None:
    """A tripwire for mlx-lm: tokens and offsets agree in each place from which a cache may be taken."""

    def work() -> None:
        made, long = tiny.model("llama"), tiny.prompt(1, 70)
        prefixes = roomy()
        prefixes.keep(KEY, long[:50], tiny.filled(made, long[:50]))
        held, covered = prefixes.fetch(KEY, long)
        generator = tiny.BatchGenerator(
            made, prefill_step_size=8, stream=mx.default_stream(mx.default_device())
        )
        (warm,) = generator.insert(
            [long[covered:]], max_tokens=[9], caches=[held], all_tokens=[long[:covered]]
        )
        (cold,) = generator.insert([tiny.prompt(2, 30)], max_tokens=[3])
        out: list[int] = []
        ended = 0
        while ended < 2:
            reading, writing = generator.next()
            for response in reading:
                cache, tokens = generator.extract_cache([response.uid])[response.uid]
                assert layers.exact(cache, len(tokens))
                if response.uid == warm and response.end_of_segment and not response.end_of_prompt:
                    assert tokens == long[:-1]
            for response in writing:
                if response.finish_reason is not None:
                    ended += 1
                    assert response.uid == cold and layers.exact(
                        response.prompt_cache, len(response.all_tokens)
                    )
                elif response.uid == warm:
                    out.append(response.token)
                    if len(out) == 5:
                        cache, tokens = generator.remove([warm], return_prompt_caches=True)[warm]
                        assert tokens == [*long, *out] and layers.exact(cache, len(tokens))
                        ended += 1
        generator.close()

    on_mlx(work)


def test_bytes_are_bounded_and_honest(on_mlx: OnMlx) -> None:
    """A row's cache is a view into its whole batch's arrays until it is detached from them."""

    def work() -> None:
        made = tiny.model("llama")
        prompts = [tiny.prompt(n + 1, 300) for n in range(8)]
        run = tiny.batch(made, prompts, counts=[2] * 8, step=300)
        run.snapshots.clear()
        one = 302 * (
            2 * 2 * 2 * 32 * 4 + 4
        )  # layers, keys and values, heads, width, float32; the token itself
        prefixes = PrefixCache(max_bytes=3 * one + 100)
        for held, tokens in run.ends:
            prefixes.keep(KEY, tokens, held)
            assert prefixes.nbytes <= prefixes.max_bytes
        assert prefixes.nbytes == 3 * one
        del held
        run.ends.clear()
        kept = [prefixes.fetch(KEY, [*tokens, 1])[1] > 0 for tokens in prompts]
        assert kept == [False] * 5 + [True] * 3
        active = mx.get_active_memory()
        prefixes.shrink(one)
        assert prefixes.nbytes == one
        assert abs(active - mx.get_active_memory() - 2 * one) < 2 * 302 * 4 + 4096
        assert prefixes.fetch(KEY, [*prompts[7], 1])[1] == 300
        prefixes.forget("another key")
        assert prefixes.nbytes == one
        prefixes.forget(KEY)
        assert prefixes.nbytes == 0 and prefixes.fetch(KEY, prompts[7]) == (None, 0)
        assert (prefixes.hits, prefixes.misses, prefixes.hit_tokens) == (4, 6, 1200)
        prefixes.close()

    on_mlx(work)


def test_nothing_is_kept_that_is_not_exact(on_mlx: OnMlx) -> None:
    def work() -> None:
        made, base = tiny.model("llama"), tiny.prompt(3, 60)
        prefixes = PrefixCache(max_bytes=100_000)
        prefixes.keep(KEY, base[:59], tiny.filled(made, base))  # another number of tokens
        prefixes.keep(KEY, base, [])
        prefixes.keep(KEY, base, [KVCache(), KVCache()])  # empty
        prefixes.keep(KEY, base[:20], tiny.filled(made, base[:20]))  # not worth it
        prefixes.keep(KEY, base * 4, tiny.filled(made, base * 4))  # more than there is room for
        assert prefixes.nbytes == 0
        prefixes.keep(KEY, base, tiny.filled(made, base))
        size = prefixes.nbytes
        prefixes.keep(KEY, base[:40], tiny.filled(made, base[:40]))  # known already
        assert prefixes.nbytes == size > 0
        prefixes.keep(KEY, [*base, *NEXT[:10]], tiny.filled(made, [*base, *NEXT[:10]]))
        assert prefixes.nbytes == size * 70 // 60  # the shorter one is gone

    on_mlx(work)


def test_an_entry_that_fails_its_check_is_dropped_and_the_next_one_serves(
    on_mlx: OnMlx, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        made, base = tiny.model("gemma3_text"), tiny.prompt(3, 60)
        prefixes = roomy()
        prefixes.keep(KEY, base[:40], tiny.filled(made, base[:40]))
        prefixes.keep(KEY, base, tiny.filled(made, base))
        check = layers.exact
        monkeypatch.setattr(layers, "exact", lambda cache, length: length != 60 and check(cache, length))
        held, covered = prefixes.fetch(KEY, [*base, *NEXT])
        assert covered == 40 and held is not None
        monkeypatch.undo()
        assert prefixes.fetch(KEY, [*base, *NEXT])[1] == 40

    on_mlx(work)
