from __future__ import annotations

import pytest

from gateway.wire.api import Api, api_of


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/chat/completions", Api.CHAT),
        ("/v1/completions", Api.COMPLETIONS),
        ("/v1/responses", Api.RESPONSES),
        ("/v1/messages", Api.MESSAGES),
        ("/v1/messages/count_tokens", Api.OTHER),
        ("/v1/responses/resp_1", Api.OTHER),
        ("/v1/chat/completions/", Api.OTHER),
        ("/v1/embeddings", Api.OTHER),
        ("", Api.OTHER),
    ],
)
def test_only_the_create_paths_have_rules(path: str, api: Api) -> None:
    assert api_of(path) is api
