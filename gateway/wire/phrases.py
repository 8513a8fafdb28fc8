"""PURE: what an upstream's error is about, where its status alone does not tell.

A 400 may mean that the prompt is too long for this model and fits another, that the model is unknown
here, or that the account is empty. Codes say so where there are codes; else the sentences that are
known from OpenAI, Azure, Anthropic, Google, Groq, Together, Fireworks, Mistral, DeepSeek, xAI,
OpenRouter, Cohere, vLLM, SGLang, TGI, llama.cpp, Ollama and LM Studio. Too narrow is better than too
wide: a client's mistake that passes for one of these would be tried again elsewhere.
"""

from __future__ import annotations

import re

from gateway.wire.failure import WireError


def _any(*phrases: str) -> re.Pattern[str]:
    return re.compile("|".join(phrases), re.IGNORECASE)


_CONTEXT_CODES = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "exceed_context_size_error",
        "model_context_window_exceeded",
        "model_max_prompt_tokens_exceeded",
    }
)
_CONTEXT = _any(
    r"maximum (?:context|prompt|model) length",
    r"\bcontext (?:length|window|size|limit)\b.{0,40}\bexceed",
    r"\bexceed.{0,60}\bcontext (?:length|window|size|limit)\b",
    r"(?:longer|larger|greater|more) than the (?:model's )?(?:maximum )?(?:context|model) (?:length|size)",
    r"context length of (?:only )?\d+",
    r"configured context size is",
    r"prompt (?:is )?too long",
    r"input is too long for (?:the )?requested model",
    r"inputs?`? (?:tokens )?(?:\+ `?max_new_tokens`? )?must (?:be <=|have less than)",
    r"input token count.{0,40}exceeds the maximum",
    r"total number of tokens in the prompt cannot exceed",
    r"exceeded model token limit",
    r"prompt token count .{0,40}exceeds the limit",
    r"prompt exceeds max length",
    r"range of input length should be",
    r"reduce the length of the (?:messages|prompt|input)",
)

_MODEL_CODES = frozenset(
    {
        "model_not_found",
        "model_not_available",
        "model_not_exist",
        "model_not_supported",
        "invalid_model",
        "unknown_model",
        "model_deprecated",
        "deploymentnotfound",
        "modelnotfound",
    }
)
_MODEL_STATUSES = frozenset({400, 403, 404, 410, 422})
_NAME = r"(?:[`'\"]?[\w./:@+-]+[`'\"]?)"
_MODEL = _any(
    rf"\bmodel:? {_NAME} (?:does not exist|(?:is |was )?not (?:found|supported|available))",
    rf"\bmodel {_NAME} (?:has been|is) (?:deprecated|decommissioned|retired)",
    r"\bmodel (?:does )?not (?:exist|found)",
    r"\bno such model",
    r"\b(?:unknown|invalid) model\b(?! (?:parameter|output|input|response|argument))",
    rf"models/{_NAME} is not found",
    r"is not a valid model",
    r"no (?:allowed providers|endpoints) (?:are available|found) (?:for|that)",
    r"(?:provided |requested )?model identifier is invalid",
    r"the requested model .{0,100}(?:does not exist|is not supported|not found)",
    r"unable to access (?:non-serverless )?model",
    r"does not have access to (?:the )?model",
    r"api deployment for this resource does not exist",
    r"no models? (?:is |are )?loaded",
)

_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_error",
        "billing_not_active",
        "billing_hard_limit_reached",
        "insufficient_balance",
        "insufficient_credits",
        "exceeded_current_quota_error",
        "credit_limit_exceeded",
        "payment_required",
        "arrearage",
    }
)
_QUOTA = _any(
    r"exceeded your current quota",
    r"check your (?:plan and )?billing",
    r"credit balance is too low",
    r"insufficient (?:account )?(?:balance|credits?|funds|quota)",
    r"(?:out of|not enough|requires more) credits",
    r"credit limit (?:exceeded|reached)",
    r"reached (?:your|its) (?:specified )?(?:api usage limit|(?:monthly )?spend(?:ing)? limit)",
    r"used all available credits",
    r"key limit exceeded",
    r"exceeded your monthly included credits",
    r"billing (?:hard )?limit",
    r"payment required",
)
_PER_TIME = _any(r"retry in \d", r"per[ _-]?(?:minute|second)")

_AUTH_CODES = frozenset(
    {"invalid_api_key", "authentication_error", "api_key_invalid", "unauthenticated", "account_deactivated"}
)
_AUTH = _any(
    r"(?:incorrect|invalid) api[ -]?key",
    r"api key (?:is )?(?:not valid|invalid|expired|missing)",
    r"invalid x-api-key",
    r"(?:missing|invalid)(?: or invalid)? authorization header",
    r"invalid authentication",
)

# What a model can't do, by the names of `failover.ability`. Not meant are a format of pictures, a kind of
# tool choice, or two things that do not go together.
_NOT = r"(?:(?:is|are|was|were) )?(?:currently )?(?:not|n't) (?:currently )?supported"
_NO = (
    r"\bdo(?:es)?(?: not|n't) (?:currently |natively )?(?:support|accept)(?: the use of)?(?: an?| any| the)?"
)
_SOME = r"(?![ _]?(?:types?|formats?|urls?|sizes?|media|mime|details?)\b)"
_UNABLE = {
    "vision": _any(
        rf"{_NO} (?:images?|vision|multi-?modal)\b(?: inputs?)?{_SOME}",
        rf"\b(?:images?|image[ _]inputs?|vision|multi-?modal(?: inputs?| data)?) {_NOT}",
        r"no endpoints found that support image input",
        r"is not a (?:multimodal|vision) model",
    ),
    "tools": _any(
        rf"{_NO} (?:tools?|tool[ _](?:use|calls?|calling)|function[ _]call(?:s|ing)?)(?![ _]choice)\b",
        rf"\b(?:tools|tool[ _](?:use|calls?|calling)|function[ _]calling)`?'? {_NOT}",
        r"no endpoints found that support tool use",
        r"tool choice requires --enable-auto-tool-choice",
    ),
    "json": _any(
        rf"{_NO} [`'\"]?(?:response[ _]format|json[ _](?:schema|mode|object)|structured outputs?)",
        rf"\b(?:response[ _]format|json[ _](?:schema|mode)|structured outputs?)[`'\"]?"
        rf"(?: of type [`'\"]?json_\w+[`'\"]?| type| parameter)? {_NOT}",
        r"response_format type is unavailable",
    ),
    "prefill": _any(
        rf"{_NO} (?:assistant )?(?:message )?prefill", r"conversation must end with a user message"
    ),
}
_ONLY_TOGETHER = _any(
    r"\b(?:when|together|combin\w+|while|unless|stream(?:ing)?|simultaneous\w*|at the same time)\b",
    r"\bwith (?:tools?|functions?|images?|json|response|thinking|reasoning)\b",
)
_UNABLE_PARAMS = {
    "tools": "tools",
    "functions": "tools",
    "response_format": "json",
    "text.format": "json",
}
_UNABLE_CODES = frozenset({"unsupported_parameter", "unsupported_value"})


def unable(error: WireError) -> str:
    """Which of vision, tools, json and prefill the model does not have, by its refusal; "" if none."""
    if error.code in _UNABLE_CODES and error.param in _UNABLE_PARAMS:
        return _UNABLE_PARAMS[error.param]
    if _ONLY_TOGETHER.search(error.message):
        return ""
    return next((name for name, phrases in _UNABLE.items() if phrases.search(error.message)), "")


def is_context_error(error: WireError) -> bool:
    """Was the prompt longer than this model takes?"""
    return _coded(error, _CONTEXT_CODES) or bool(_CONTEXT.search(error.message))


def is_model_error(error: WireError, status: int) -> bool:
    """Does the upstream not have this model, or not for us? Nothing is said of other things not found."""
    if status not in _MODEL_STATUSES:
        return False
    if _coded(error, _MODEL_CODES) or _MODEL.search(error.message):
        return True
    # Anthropic: a 404 whose whole sentence is "model: NAME"
    return status == 404 and (error.param == "model" or error.message.startswith("model: "))


def is_quota_error(error: WireError) -> bool:
    """Is the account out of money or quota, so that waiting a minute can't help?"""
    if _coded(error, _QUOTA_CODES):
        return True
    # Google says "exceeded your current quota" of every limit, the one per minute too.
    if error.code == "RESOURCE_EXHAUSTED" or _PER_TIME.search(error.message):
        return False
    return bool(_QUOTA.search(error.message))


def is_auth_error(error: WireError) -> bool:
    """Is the credential refused, even where the status is a 400 (Google, xAI)?"""
    return _coded(error, _AUTH_CODES) or bool(_AUTH.search(error.message))


def _coded(error: WireError, codes: frozenset[str]) -> bool:
    return any(word is not None and word.lower() in codes for word in (error.code, error.kind))
