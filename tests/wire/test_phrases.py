"""Sentences as upstreams really write them, and some that only look alike."""

from __future__ import annotations

import pytest

from gateway.wire.failure import WireError
from gateway.wire.phrases import is_auth_error, is_context_error, is_model_error, is_quota_error, unable

CONTEXT = [
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    "Please reduce the length of the messages or completion.",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 and 512",
    "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "the request exceeds the available context size. try increasing the context size",
    "request (1234 tokens) exceeds the available context size (1024 tokens), try increasing it",
    "prompt too long; exceeded max context length by 4096 tokens",
    "the input length exceeds the context length",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "The model is loaded with context length of only 4096 tokens, which is not enough.",
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "Input is too long for requested model.",
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "too many tokens: total number of tokens in the prompt cannot exceed 4081",
    "Invalid request: Your request exceeded model token limit: 8192",
    "invalid params, context window exceeds limit",
    "Range of input length should be [1, 30720]",
]
MODEL = [
    (404, "The model `gpt-9` does not exist or you do not have access to it."),
    (404, 'model "qwen3" not found, try pulling it first'),
    (404, "model 'qwen3:8b' not found"),
    (404, "model: claude-9"),
    (400, "Model Not Exist"),
    (400, "Invalid model: mistral-huge"),
    (404, "models/gemini-9 is not found for API version v1beta, or is not supported for generateContent."),
    (400, "acme/foo-1 is not a valid model ID"),
    (404, "No endpoints found for acme/foo-1."),
    (404, "Model not found, inaccessible, and/or not deployed"),
    (404, "The API deployment for this resource does not exist. If you created it, wait five minutes."),
    (403, "Project `proj_1` does not have access to model `o9`"),
    (400, "Unable to access non-serverless model acme/foo. Please visit the site to create an endpoint."),
    (400, "The provided model identifier is invalid."),
    (404, "The requested model 'acme/foo' does not exist"),
    (400, "The model `llama-2` has been decommissioned and is no longer supported."),
    (404, "No models loaded. Please load a model in the developer page."),
]
QUOTA = [
    "You exceeded your current quota, please check your plan and billing details.",
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
    "Insufficient Balance",
    "Insufficient credits. Add more using https://example.com/credits",
    "This request requires more credits, or fewer max_tokens.",
    "You have reached your specified API usage limits. You will regain access on 2026-01-01.",
    "Your team has either used all available credits or reached its monthly spending limit.",
    "Key limit exceeded (total limit).",
    "You have exceeded your monthly included credits for Inference Providers.",
]
AUTH = [
    "Incorrect API key provided: ***. You can find your API key in the console.",
    "API key not valid. Please pass a valid API key.",
    "invalid x-api-key",
    "Missing or invalid Authorization header.",
    "Invalid Authentication",
]
HARMLESS = [
    "",
    "Invalid type for 'messages': expected an array",
    "max_tokens must be at least 1",
    "Rate limit reached for gpt-4o on requests per min (RPM): Limit 3, Used 3, Requested 1.",
    "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 9000",
    "invalid model output: the tool call was cut off",
    "The engine is currently overloaded, please try again later",
    "404 page not found",
    "Unsupported value: 'temperature' does not support 0.2 with this model.",
    "The file `model.bin` was not found",
]


def said(message: str, **more: str) -> WireError:
    return WireError(message=message, **more)


@pytest.mark.parametrize("message", CONTEXT)
def test_a_prompt_that_is_too_long_is_known_by_its_sentence(message: str) -> None:
    assert is_context_error(said(message))
    assert not is_quota_error(said(message))
    assert not is_auth_error(said(message))
    assert not is_model_error(said(message), 400)


@pytest.mark.parametrize(("status", "message"), MODEL)
def test_a_missing_model_is_known_by_its_sentence(status: int, message: str) -> None:
    assert is_model_error(said(message), status)
    assert not is_context_error(said(message))
    assert not is_quota_error(said(message))


@pytest.mark.parametrize("message", QUOTA)
def test_an_empty_account_is_known_by_its_sentence(message: str) -> None:
    assert is_quota_error(said(message))
    assert not is_context_error(said(message))
    assert not is_model_error(said(message), 400)


@pytest.mark.parametrize("message", AUTH)
def test_a_refused_key_is_known_by_its_sentence(message: str) -> None:
    assert is_auth_error(said(message))
    assert not is_quota_error(said(message))


@pytest.mark.parametrize("message", HARMLESS)
def test_other_sentences_mean_none_of_this(message: str) -> None:
    error = said(message)
    assert not is_context_error(error)
    assert not is_quota_error(error)
    assert not is_auth_error(error)
    assert not any(is_model_error(error, status) for status in (400, 404, 429, 500))


def test_codes_decide_without_a_sentence() -> None:
    assert is_context_error(said("?", code="context_length_exceeded"))
    assert is_context_error(said("?", kind="exceed_context_size_error"))
    assert is_model_error(said("?", code="model_not_found"), 403)
    assert is_model_error(said("?", code="DeploymentNotFound"), 404)
    assert is_quota_error(said("?", code="insufficient_quota"))
    assert is_quota_error(said("?", kind="billing_error"))
    assert is_auth_error(said("?", code="invalid_api_key"))
    assert is_auth_error(said("?", kind="authentication_error"))


def test_a_model_is_never_missing_behind_a_status_that_says_something_else() -> None:
    assert not is_model_error(said("?", code="model_not_found"), 500)
    assert not is_model_error(said("The model `x` does not exist"), 429)


def test_a_404_about_the_field_model_is_about_the_model() -> None:
    assert is_model_error(said("no such thing", param="model"), 404)
    assert not is_model_error(said("no such thing", param="file_id"), 404)
    assert not is_model_error(said("must be a string", param="model"), 400)


def test_googles_limit_per_minute_is_no_empty_account() -> None:
    message = "You exceeded your current quota, please check your plan and billing details."
    assert not is_quota_error(said(message, code="RESOURCE_EXHAUSTED"))
    assert not is_quota_error(said(message + " Please retry in 23.5s."))
    assert not is_quota_error(said(message + " Limit: 15 requests per minute."))


UNABLE = [
    ("vision", "this model does not support image input (ref: b8bd630e)"),
    ("vision", "Model do not support image input. Request id: 02178"),
    ("vision", "Model `gemma4:e4b-mlx` does not support images"),
    ("vision", "No endpoints found that support image input"),
    ("vision", "image input is not supported - hint: you may need to provide the mmproj"),
    ("vision", "acme/foo is not a multimodal model"),
    ("tools", "registry.ollama.ai/library/dolphin-mistral:latest does not support tools"),
    ("tools", "No endpoints found that support tool use."),
    ("tools", '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
    ("tools", "`tools` is not supported in this model."),
    ("json", "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
    ("json", "This response_format type is unavailable now"),
    ("json", "This model does not support response format `json_schema`."),
    ("json", "Structured outputs are not supported for this model"),
    (
        "prefill",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ),
    ("", "Invalid image data"),
    ("", "unsupported image format: tiff"),
    ("", "This model does not support image urls, send base64"),
    ("", "The image url is not supported"),
    ("", "This model does not support image types other than png"),
    ("", "This model does not support tool choice 'required'"),
    ("", "Function calling with a response mime type: 'application/json' is unsupported"),
    ("", "json mode is not supported when tools are given"),
    ("", "tools are not supported with streaming"),
    ("", "This model does not support the parameter top_k"),
    ("", "Invalid schema for function 'f': tools must not be empty"),
]


@pytest.mark.parametrize(("part", "message"), UNABLE)
def test_what_a_model_cannot_do(part: str, message: str) -> None:
    assert unable(WireError(message=message)) == part


def test_a_code_that_names_its_parameter_says_it_too() -> None:
    assert unable(WireError(message="no", code="unsupported_value", param="response_format")) == "json"
    assert unable(WireError(message="no", code="unsupported_parameter", param="tools")) == "tools"
    assert unable(WireError(message="no", code="unsupported_parameter", param="temperature")) == ""
    assert unable(WireError(message="no", code="invalid_value", param="tools")) == ""
