"""`python -m tests.benchmarks.guide`: rows that are kept to a schema beside rows that are free.

A random model of six million parameters (hidden 256, 6 layers, 4,096 tokens), eight rows; the
batches take turns of a few steps, each turn gives a ratio, and the median is said. The reference BLAS in MLX's
CPU wheel makes eight rows cost eight times one, which no GPU does: OpenBLAS is preloaded if found.
"""

from __future__ import annotations

import argparse
import ctypes.util
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROWS, STEPS, VOCAB = 8, 12, 4096
CASES = {"free": 0, "8 of 8": 8, "1 of 8": 1}
# Long enough that no row ends before its time.
SCHEMA = {
    "type": "array",
    "minItems": 500,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 3, "maxLength": 40},
            "kind": {"enum": ["person", "place", "thing"]},
            "size": {"type": "number"},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
        },
        "required": ["name", "kind", "size", "tags"],
        "additionalProperties": False,
    },
}


def tokenizer() -> Any:
    """Byte-level BPE, trained on this repository's own text."""
    from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, TokenizerWrapper
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    root = Path(__file__).parents[2]
    texts = (path.read_text("utf-8") for path in sorted(root.glob("gateway/**/*.py")))
    made.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")
    return TokenizerWrapper(fast, BPEStreamingDetokenizer, eos_token_ids=[fast.eos_token_id])


def model() -> Any:
    import mlx.core as mx
    from mlx_lm.models.llama import Model, ModelArgs

    mx.random.seed(0)
    args = ModelArgs(
        model_type="llama",
        hidden_size=256,
        num_hidden_layers=6,
        intermediate_size=688,
        num_attention_heads=4,
        num_key_value_heads=4,
        rms_norm_eps=1e-5,
        vocab_size=VOCAB,
    )
    made = Model(args)
    mx.eval(made.parameters())
    return made


class Race:
    """A batch of rows that all go on to its end; it is stepped in short turns beside others."""

    def __init__(self, model: Any, processors: list[list[Any]]) -> None:
        import mlx.core as mx
        from mlx_lm.generate import BatchGenerator
        from mlx_lm.sample_utils import make_sampler

        stream = mx.default_stream(mx.default_device())
        self.generator: Any = BatchGenerator(model, max_tokens=100_000, stream=stream)
        self.generator.insert(
            [[1000 + row, *range(50, 65)] for row in range(len(processors))],
            samplers=[make_sampler(1.0)] * len(processors),
            logits_processors=processors,
        )
        while not self.generator.next()[1]:
            pass

    def turn(self) -> float:
        """The seconds that some steps take, with all that they have begun."""
        import mlx.core as mx

        began = time.perf_counter()
        for _ in range(STEPS):
            assert len(self.generator.next_generated()) == ROWS
        mx.synchronize()
        return time.perf_counter() - began


def turns(count: int) -> Iterator[dict[str, float]]:
    """The seconds of each turn of each batch, in an order that changes."""
    import mlx.core as mx

    from gateway.local.engine.guide import Guide, GuideMaker
    from gateway.local.grammar import GuidePlan

    mx.random.seed(0)
    tokens, weights = tokenizer(), model()
    asked = {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}
    guides: list[Guide] = []
    races: dict[str, Race] = {}
    for name, bound in CASES.items():
        maker = GuideMaker(tokens, VOCAB)
        made = [maker.make(GuidePlan(response_format=asked)) for _ in range(bound)]
        guides += [guide for guide in made if guide is not None]
        races[name] = Race(weights, [[guide] for guide in made] + [[]] * (ROWS - bound))
        maker.watch(races[name].generator)
    for number in range(count):
        names = list(races)[:: 1 if number % 2 else -1]
        yield {name: races[name].turn() for name in names}
        assert not any(guide.failure for guide in guides)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--turns", type=int, default=60)
    taken = list(turns(ask.parse_args().turns + 3))[3:]  # the first ones warm up
    for name in CASES:
        ratios = sorted(turn["free"] / turn[name] for turn in taken)
        rate = statistics.median(ROWS * STEPS / turn[name] for turn in taken)
        low, high = ratios[len(ratios) // 4], ratios[len(ratios) * 3 // 4]
        print(
            f"{name:>7}: {rate:5.0f} tok/s, {statistics.median(ratios):.2f} of free (half: {low:.2f}-{high:.2f})"
        )


if __name__ == "__main__":
    blas = ctypes.util.find_library("openblas")
    if blas and "LD_PRELOAD" not in os.environ and sys.platform == "linux":
        os.environ["LD_PRELOAD"] = blas
        os.execv(sys.executable, [sys.executable, "-m", "tests.benchmarks.guide", *sys.argv[1:]])
    main()
