"""PURE: everything that a request needs to know of the configuration, in one frozen value.

The store builds one after every change and hands it over; requests in flight keep theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from gateway.failover.ability import Ability
from gateway.failover.policy import BUILT_IN, Policy
from gateway.routing.table import RuleTable
from gateway.wire.dialect import Dialect


class AuthStyle(StrEnum):
    """How an upstream wants to be shown a credential."""

    BEARER = "bearer"  # Authorization: Bearer KEY
    X_API_KEY = "x-api-key"  # Anthropic
    API_KEY = "api-key"  # Azure
    NONE = "none"  # a server on this machine that asks for nothing


class Spread(StrEnum):
    """How requests are spread over several credentials of an upstream."""

    ORDER = "order"  # the heaviest first, the older of equals; the next one only when it fails
    WEIGHT = "weight"  # each as often as its weight says


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A named cloud API. `base_url` is normalised: no slash at its end, its version path included."""

    name: str
    dialect: Dialect
    base_url: str
    auth: AuthStyle = AuthStyle.BEARER
    headers: tuple[tuple[str, str], ...] = ()  # fixed headers, e.g. anthropic-version
    query: tuple[tuple[str, str], ...] = ()  # fixed query, e.g. api-version
    connect_s: float = 5.0
    list_models: bool = True  # may /v1/models ask this upstream
    enabled: bool = True
    note: str = ""
    abilities: tuple[Ability, ...] = ()  # what its models can do; of several that match, the first that says
    spread: Spread = Spread.ORDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What the gateway shows an upstream, still sealed. `version` grows whenever the secret changes.

    Of several the one with the larger `weight` is used first, or more often: see `Spread`.
    """

    id: int
    upstream: str
    name: str
    version: int
    base_url: str  # the URL that the seal is bound to
    hint: str  # sk-...abcd
    sealed: bytes = field(repr=False)
    enabled: bool = True
    weight: int = 1  # 1 to 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """What a caller shows: only its SHA-256 is known. `expires_at` is Unix time, None for never."""

    id: int
    name: str
    digest: bytes = field(repr=False)
    prefix: str  # the first characters, to tell keys apart in lists
    admin: bool = False
    enabled: bool = True
    expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One consistent state of the configuration in the database."""

    generation: int = 0
    rules: RuleTable = field(default_factory=RuleTable)
    policies: Mapping[str, Policy] = field(default_factory=lambda: MappingProxyType(dict(BUILT_IN)))
    upstreams: Mapping[str, Upstream] = field(default_factory=lambda: MappingProxyType({}))
    credentials: Mapping[str, tuple[Credential, ...]] = field(default_factory=lambda: MappingProxyType({}))
    clients: Mapping[bytes, ClientKey] = field(default_factory=lambda: MappingProxyType({}))  # by digest
