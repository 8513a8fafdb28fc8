"""Upstreams that many people use, so that `upstreams add NAME --preset NAME` is all that it takes.

Base URLs, dialects and ways to show a key are from each provider's public documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.failover.ability import Ability
from gateway.snapshot import AuthStyle
from gateway.wire.dialect import Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is known of a provider. A `base_url` of None must be given by the operator."""

    name: str
    title: str
    base_url: str | None
    dialect: Dialect = Dialect.OPENAI
    auth: AuthStyle = AuthStyle.BEARER
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    list_models: bool = True
    abilities: tuple[Ability, ...] = ()
    key_env: str | None = None  # where people usually keep the key
    hint: str = ""


# What nobody says is found out: a provider that answers /v1/responses with a 404 is asked as a chat.
_NO_RESPONSES = (Ability(responses=False),)

_ALL = (
    Preset(name="openai", title="OpenAI", base_url="https://api.openai.com/v1", key_env="OPENAI_API_KEY"),
    Preset(
        name="anthropic",
        title="Anthropic",
        base_url="https://api.anthropic.com/v1",
        dialect=Dialect.ANTHROPIC,
        auth=AuthStyle.X_API_KEY,
        headers=(("anthropic-version", "2023-06-01"),),  # the client's own one is sent where it has one
        key_env="ANTHROPIC_API_KEY",
    ),
    Preset(
        name="openrouter",
        title="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        key_env="OPENROUTER_API_KEY",
    ),
    Preset(name="groq", title="Groq", base_url="https://api.groq.com/openai/v1", key_env="GROQ_API_KEY"),
    Preset(
        name="mistral",
        title="Mistral",
        base_url="https://api.mistral.ai/v1",
        abilities=_NO_RESPONSES,
        key_env="MISTRAL_API_KEY",
    ),
    Preset(
        name="deepseek", title="DeepSeek", base_url="https://api.deepseek.com/v1", key_env="DEEPSEEK_API_KEY"
    ),
    Preset(
        name="together",
        title="Together AI",
        base_url="https://api.together.xyz/v1",
        abilities=_NO_RESPONSES,
        key_env="TOGETHER_API_KEY",
    ),
    Preset(
        name="fireworks",
        title="Fireworks AI",
        base_url="https://api.fireworks.ai/inference/v1",
        key_env="FIREWORKS_API_KEY",
    ),
    Preset(
        name="gemini",
        title="Google Gemini (its OpenAI endpoint)",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        abilities=_NO_RESPONSES,
        key_env="GEMINI_API_KEY",
    ),
    Preset(
        name="azure",
        title="Azure OpenAI",
        base_url=None,
        auth=AuthStyle.API_KEY,
        list_models=False,  # it lists what could be deployed, not what is
        key_env="AZURE_OPENAI_API_KEY",
        hint="give your own resource: --base-url https://RESOURCE.openai.azure.com/openai/v1",
    ),
    Preset(
        name="ollama",
        title="Ollama on this machine",
        base_url="http://127.0.0.1:11434/v1",
        auth=AuthStyle.NONE,
    ),
    Preset(
        name="lmstudio",
        title="LM Studio on this machine",
        base_url="http://127.0.0.1:1234/v1",
        auth=AuthStyle.NONE,
    ),
    Preset(
        name="vllm",
        title="vLLM on this machine",
        base_url="http://127.0.0.1:8000/v1",
        auth=AuthStyle.NONE,
        hint="a server started with --api-key needs --auth bearer and a credential",
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _ALL})
