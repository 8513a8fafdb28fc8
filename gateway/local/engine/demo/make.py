"""Makes the demo model again: `python -m gateway.local.engine.demo.make OUTDIR`.

The stock MLX wheel for Linux has a slow BLAS: preload OpenBLAS there (see README.md beside this file).
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
from transformers import PreTrainedTokenizerFast

from gateway.local.engine.demo import facts
from gateway.local.engine.demo.tokens import END, PAD, save_tokenizer, train_tokenizer
from gateway.local.engine.demo.train import Writer, config, save_model, train

SEED = 7
VOCABULARY = 1920
CONTEXT = 2048

OTHER_WORDS = (
    "name arguments C degrees sunny cloudy rainy windy snow clear fog storm temperature celsius value temp "
    "sky weather condition The tool says: It is"
)

log = logging.getLogger(__name__)


def texts() -> list[str]:
    """What the tokenizer learns its words from: every answer, way to ask and word to fill in."""
    found = [text for answer, asks in facts.FACTS.items() for text in (answer, answer, answer, *asks)]
    # As the template shows them.
    found += [ask[0].lower() + ask[1:] for asks in facts.FACTS.values() for ask in asks]
    found += [ask.lower() for asks in facts.FACTS.values() for ask in asks]
    found += [facts.UNKNOWN, facts.TOO_BIG_SUM, facts.TOO_FAR, facts.NO_WEATHER, facts.NO_CLOCK] * 3
    found += [facts.TOO_MUCH_TO_SAY, facts.UNKNOWN_PLACE, facts.TOOL_DONE, facts.WHICH_CITY] * 3
    # Often enough that each becomes one token: a word of one token is copied more surely than pieces.
    names = (
        *facts.WEATHER_TOOLS,
        *facts.TIME_TOOLS,
        *facts.PLACES,
        *(w for pair in facts.OTHER_TOOLS for w in pair),
    )
    found += [
        *facts.WORDS,
        *facts.CITIES,
        *map(str.lower, facts.CITIES),
        *names,
        *map(str, range(10, 100)),
    ] * 9
    asks = (*facts.ASK_WEATHER, *facts.ASK_TIME, *facts.ASK_ECHO, *facts.ASK_COUNT, *facts.ASK_SUM)
    found += [ask.lower() for ask in (*asks, *facts.ASK_UNKNOWN, *facts.ASK_BEYOND)] * 3
    found += [*facts.ASK_UNKNOWN, *facts.SYSTEMS, OTHER_WORDS] * 3
    return found


def settings_for(folder: Path) -> dict[str, Any]:
    """The network's description, for the tokenizer in the folder."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    vocabulary = tokenizer.get_vocab()
    return config(len(tokenizer), context=CONTEXT, eos=vocabulary[END], pad=vocabulary[PAD])


def main() -> None:
    """Parse the command line, train, save."""
    parser = argparse.ArgumentParser(description="train the demo model of mlx-gateway and write its folder")
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--copy-steps", type=int, default=500)
    parser.add_argument("--lessons", type=int, default=45000)
    parser.add_argument("--rate", type=float, default=3e-3)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    mx.set_default_device(mx.cpu)  # the same device everywhere, so that the seed means the same
    started = time.monotonic()
    args.outdir.mkdir(parents=True, exist_ok=True)
    save_tokenizer(train_tokenizer(texts(), size=VOCABULARY), args.outdir)
    settings = settings_for(args.outdir)
    model = train(
        settings,
        Writer(PreTrainedTokenizerFast.from_pretrained(args.outdir)),
        seed=SEED,
        steps=args.steps,
        copy_steps=args.copy_steps,
        lessons=args.lessons,
        rate=args.rate,
    )
    size = save_model(model, settings, args.outdir)
    log.info("%d parameters, %.0f s in all, written to %s", size, time.monotonic() - started, args.outdir)


if __name__ == "__main__":
    main()
