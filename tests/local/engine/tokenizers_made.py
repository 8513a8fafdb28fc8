"""Small tokenizers of the kinds that models come with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def byte_level(texts: Iterable[str], added: Iterable[str] = (), *, size: int = 600) -> Any:
    """As GPT-2, Llama 3 and Qwen have it: merged bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    return _wrapped(made, "<|end|>")


def sentencepiece(texts: Iterable[str], added: Iterable[str] = (), *, size: int = 600) -> Any:
    """As Llama 2 and the first Mistral have it: pieces with a mark for blanks, and bytes for the rest."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers

    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    state = trained.model
    state.byte_fallback = True
    made = Tokenizer(state)
    made.normalizer = trained.normalizer
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    return _wrapped(made, "</s>")


def _wrapped(made: Any, end: str) -> Any:
    from mlx_lm.tokenizer_utils import TokenizerWrapper
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end)
    return TokenizerWrapper(fast, eos_token_ids=[fast.eos_token_id])
