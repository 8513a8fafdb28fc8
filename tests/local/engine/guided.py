"""A random model whose answers are guided, on the real batch generator; for use on the MLX thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.local.models import TOOL_TEMPLATE, make_model

MARKERS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
END = 256


class Answer(NamedTuple):
    """What came of one row."""

    text: str
    tokens: list[int]
    finish: str
    failure: str | None
    last: int  # the token that ended it


class Lab:
    """The model, its tokenizer and the maker of its guides."""

    def __init__(self, folder: Path, **how: Any) -> None:
        from mlx_lm.utils import load_model, load_tokenizer

        from gateway.local.engine.guide import GuideMaker

        make_model(folder, **{"template": TOOL_TEMPLATE, "extra_tokens": MARKERS, **how})
        self.model, _ = load_model(folder)
        self.tokenizer = load_tokenizer(folder)
        self.maker = GuideMaker(self.tokenizer, len(self.tokenizer))

    def answers(
        self,
        guides: Sequence[Any],
        *,
        scripts: Sequence[Any] = (),
        limit: int = 300,
        seed: int = 0,
        watch: bool = True,
        prompts: Sequence[list[int]] = (),
    ) -> list[Answer]:
        """One answer for each guide (None: free), all in one batch; the first tokens may be scripted."""
        import mlx.core as mx
        from mlx_lm.generate import BatchGenerator

        mx.random.seed(seed)
        generator = BatchGenerator(
            self.model,
            max_tokens=limit,
            stop_tokens=[[token] for token in self.tokenizer.eos_token_ids],
            stream=mx.default_stream(mx.default_device()),
        )
        self.maker.watch(generator if watch else None)
        samplers = [*scripts, *[drawn] * (len(guides) - len(scripts))]
        uids = generator.insert(
            [list(p) for p in prompts] or [[258, 40 + row, 259] for row in range(len(guides))],
            samplers=samplers,
            logits_processors=[[guide] if guide else [] for guide in guides],
        )
        said: dict[int, list[int]] = {uid: [] for uid in uids}
        finish: dict[int, str] = {}
        last: dict[int, int] = {}
        while len(finish) < len(uids):
            for step in generator.next()[1]:
                if step.finish_reason != "stop":
                    said[step.uid].append(step.token)
                if step.finish_reason:
                    finish[step.uid], last[step.uid] = step.finish_reason, step.token
        self.maker.watch(None)
        generator.close()
        return [
            Answer(
                self.tokenizer.decode(said[uid]),
                said[uid],
                finish[uid],
                guide.failure if guide else None,
                last[uid],
            )
            for uid, guide in zip(uids, guides, strict=True)
        ]

    def tokens(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return found

    def letters(self, text: str) -> list[int]:
        """The text without the tokens of marks."""
        return [token for letter in text for token in self.tokens(letter)]


def drawn(logprobs: Any) -> Any:
    import mlx.core as mx

    return mx.random.categorical(logprobs)


def greedy(logprobs: Any) -> Any:
    import mlx.core as mx

    return mx.argmax(logprobs, axis=-1)


class Script:
    """A sampler that says these tokens, each where it is allowed first, and draws whatever else."""

    def __init__(self, *tokens: int, patient: bool = False) -> None:
        self._tokens = list(tokens)
        self._patient = patient

    def __call__(self, logprobs: Any) -> Any:
        import mlx.core as mx

        if self._tokens and (not self._patient or mx.isfinite(logprobs[0, self._tokens[0]]).item()):
            return mx.array([self._tokens.pop(0)], mx.uint32)
        return mx.random.categorical(logprobs)
