"""Takes keys out of text that is written down, whoever wrote it: the last thing before a line leaves.

Two nets: what looks like a key (the shapes that providers use, and whatever stands behind a name such
as authorization), and the very keys that were opened in this process, because some providers' keys
look like anything. Nothing else in the program may rely on it: no message is meant to hold a secret.
"""

from __future__ import annotations

import re
import threading

STARS = "***"
_KNOWN_MOST = 512
_KNOWN_SHORTEST = 8  # shorter ones would take ordinary words out of messages

_NAMES = (
    r"(?:proxy-)?authorization|x-api-key|x-goog-api-key|api[-_]?key|access[-_]token|refresh[-_]token"
    r"|client[-_]secret|secret|password|passwd"
)
_LOOKS_LIKE_ONE = re.compile(
    "|".join(
        (
            r"(?P<cookie>\b(?:set-)?cookie[\"']?\s*[:=,]\s*[\"']?)[^\r\n\"']+",
            rf"(?P<named>\b(?:{_NAMES})[\"']?\s*[:=,]\s*(?:b(?=[\"']))?[\"']?(?:bearer\s+|basic\s+)?)[^\s\"',;&)}}\]]{{4,}}",
            r"(?P<query>[?&](?:key|token|sig|signature)=)[^&\s\"']+",
            r"(?P<bearer>\bbearer\s+)[a-z0-9._~+/=-]{8,}",
            r"(?P<user>://[^/\s:@\"']*:)[^/\s@\"']+(?=@)",
            r"\b(?:sk|mlxg)[-_][a-z0-9_-]{8,}",
            r"\b(?:gsk|xai|hf|pplx|nvapi)[-_][a-z0-9_-]{16,}",
            r"\baiza[a-z0-9_-]{30,}",
            r"\beyj[a-z0-9_-]{8,}\.[a-z0-9_-]{8,}\.[a-z0-9_-]*",
        )
    ),
    re.IGNORECASE,
)

# Most lines hold none of these, and looking for them costs a thirtieth of what the pattern costs.
_TRIGGERS = (
    *("sk-", "sk_", "mlxg", "gsk", "xai", "hf_", "pplx", "nvapi", "aiza", "eyj", "bearer", "auth", "cookie"),
    *("api", "token", "secret", "passw", "://", "key=", "sig"),
)

_lock = threading.Lock()
_opened: dict[str, None] = {}  # in the order in which they came
_known: tuple[str, ...] = ()  # longest first: of a key that begins with another nothing is left over


def hide(secret: str) -> None:
    """Take this very text out of everything from now on. Called where a secret is opened."""
    global _known  # noqa: PLW0603 - one net for the process, as there is one log
    if len(secret) < _KNOWN_SHORTEST or secret in _known:
        return
    with _lock:
        _opened[secret] = None
        if len(_opened) > _KNOWN_MOST:
            del _opened[next(iter(_opened))]
        _known = tuple(sorted(_opened, key=len, reverse=True))


def holds_secret(text: str) -> bool:
    """Does the text hold one of the very keys that were opened here?"""
    return any(secret in text for secret in _known)


def without_secrets(text: str) -> str:
    """The text without the very keys that were opened here; for answers, where what merely looks like
    a key may be the client's own business.
    """
    for secret in _known:
        if secret in text:
            text = text.replace(secret, STARS)
    return text


def redact(text: str) -> str:
    """The text without anything that is, or looks like, a key."""
    text = without_secrets(text)
    lower = text.lower()
    for trigger in _TRIGGERS:
        if trigger in lower:
            return _LOOKS_LIKE_ONE.sub(_stars, text)
    return text


def _stars(found: re.Match[str]) -> str:
    """Keep the name that a key stood behind."""
    name = found.lastgroup
    return (found[name] if name else "") + STARS
