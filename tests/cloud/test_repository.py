"""What of a repository is taken: listings in, file names or a refusal out."""

from __future__ import annotations

import pytest

from gateway.cloud.repository import RemoteFile, Repository, chosen, is_repository_name
from gateway.errors import RefusedError


def listing(*names: str) -> Repository:
    return Repository("org/name", "a" * 40, tuple(RemoteFile(name, 5) for name in names))


def taken(*names: str) -> list[str]:
    return [file.path for file in chosen(listing("config.json", "model.safetensors", *names))][1:-1]


def test_what_tells_most_comes_first_and_the_weights_last() -> None:
    names = ["model-2.safetensors", "tokenizer.json", "config.json", "README.md", "model-1.safetensors"]
    assert [file.path for file in chosen(listing(*names))] == [
        "config.json", "README.md", "tokenizer.json", "model-1.safetensors", "model-2.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "generation_config.json", "chat_template.jinja", "merges.txt", "tokenizer.model", "tokenizer.model.v3",
        "tokenizer", "README.md", "README", "readme.txt", "LICENSE", "LICENSE.md", "1_Pooling/config.json",
        "additional_chat_templates/tools.jinja",
    ],
)  # fmt: skip
def test_taken(name: str) -> None:
    assert taken(name) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "modeling.py", "tokenizer.py", "tokenizer.pkl", "TOKENIZER.PY", "pytorch_model.bin", "x.pt", "x.pth",
        "x.ckpt", "model.gguf", "onnx/model.onnx", ".gitattributes", ".pulled.json", ".github/x.json",
        "image.png", "original/model.safetensors", "consolidated.safetensors", "README/x.png", "tokenizer.so",
    ],
)  # fmt: skip
def test_not_taken(name: str) -> None:
    assert taken(name) == []


def test_weights_of_another_name_are_better_than_none() -> None:
    assert [f.path for f in chosen(listing("config.json", "weights.safetensors"))][1:] == [
        "weights.safetensors"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../x.json", "a/../../x.json", "/etc/x.json", "..", "a\\..\\x.json", "C:\\x.json", "a//x.json",
        "./x.json", "", "x.json\0", "x\n.json", "..\\x.py", "\u202ex.json",
    ],
)  # fmt: skip
def test_a_name_that_could_lead_out_refuses_the_whole_repository(name: str) -> None:
    with pytest.raises(
        RefusedError, match="could lead out of the model's folder; nothing was downloaded"
    ) as e:
        taken(name)
    assert e.value.message.isprintable()


def test_what_is_no_model_for_mlx_is_refused_in_words() -> None:
    with pytest.raises(RefusedError, match=r"org/name has no config\.json"):
        chosen(listing("model.safetensors"))
    with pytest.raises(RefusedError, match="has no safetensors"):
        chosen(listing("config.json", "pytorch_model.bin"))
    with pytest.raises(RefusedError, match=r"holds GGUF weights.*mlx-community"):
        chosen(listing("config.json", "model-Q4.gguf"))


@pytest.mark.parametrize("text", ["mlx-community/Qwen3-8B-4bit", "a/b", "A_b.c/d-e.f_1"])
def test_names_of_repositories(text: str) -> None:
    assert is_repository_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "gpt2", "a/b/c", "", "/", "a/", "/b", "../b", "a/..", "a..b/c", "a--b/c", "a/b.git", "-a/b", ".a/b",
        "a/b.", "a b/c", "a/b\n", "https://hub/a/b", "a\\b/c", "a/" + "b" * 97,
    ],
)  # fmt: skip
def test_names_of_no_repository(text: str) -> None:
    assert not is_repository_name(text)
