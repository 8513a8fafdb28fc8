"""The Hugging Face hub, or whatever HF_ENDPOINT names: lists a repository, sends its files.

The only importer of huggingface_hub, which knows the address, the token, the proxy and what the hub's
errors mean. Its own download begins a file anew in each process; here a file can be had from any byte
on. Two exceptions leave this file: RefusedError, and of those HubBusyError for what may pass.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from gateway import __version__
from gateway.cloud.repository import RemoteFile, Repository
from gateway.errors import RefusedError

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)")
_LONGEST_WAIT_S = 60.0
_GIVE_TOKEN = "give a token with HF_TOKEN=hf_... or log in with `hf auth login`"  # noqa: S105 - no token, the advice


class HubBusyError(RefusedError):
    """The hub or the way to it failed in a manner that may pass."""

    def __init__(self, message: str, *, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a file from `start` on, which is 0 when the hub does not send parts of it."""

    start: int
    chunks: Iterator[bytes]


class Hub:
    """A client of the hub, for one command; ends its connections when left."""

    def __init__(self) -> None:
        given = _given_endpoint()
        import huggingface_hub
        from huggingface_hub import constants
        from huggingface_hub.utils import logging

        logging.set_verbosity_error()  # what there is to say, this program says
        constants.HF_HUB_DISABLE_TELEMETRY = True  # else it asks the hub what might be running it
        self._endpoint = given or constants.ENDPOINT
        self._timeout_s = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        self._hf = huggingface_hub
        self._token = _token(huggingface_hub.get_token)
        self._api = huggingface_hub.HfApi(
            endpoint=self._endpoint,
            token=self._token,
            library_name="mlx-gateway",
            library_version=__version__,
        )
        self.host = urlsplit(self._endpoint).netloc.rpartition("@")[2]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hf.close_session()

    def repository(self, name: str, revision: str | None) -> Repository:
        """What the repository holds at the commit that `revision` (a branch, tag or commit) means now."""
        from huggingface_hub.hf_api import RepoFile

        with self._in_words(name, revision), self._expecting_a_hub():
            info = self._api.model_info(
                name, revision=revision or "main", files_metadata=True, timeout=self._timeout_s
            )
            sha, listed = str(info.sha), [_listed(f.rfilename, f.size, f) for f in info.siblings or ()]
            if _COMMIT.fullmatch(sha) is None:
                raise ValueError("no commit")
            if not listed or None in listed:  # some mirrors give no sizes there
                tree = self._api.list_repo_tree(name, recursive=True, revision=sha)
                listed = [_listed(f.path, f.size, f) for f in tree if isinstance(f, RepoFile)]
        return Repository(name, sha, tuple(file for file in listed if file is not None))

    @contextmanager
    def body(self, repository: Repository, file: RemoteFile, *, start: int) -> Iterator[Body]:
        """The file's bytes, from `start` on where the hub can do that."""
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        headers = build_hf_headers(token=self._token, library_name="mlx-gateway", library_version=__version__)
        headers["accept-encoding"] = "identity"  # else `start` would count compressed bytes
        if start:
            headers["range"] = f"bytes={start}-"
        url = self._hf.hf_hub_url(
            repository.name, file.path, revision=repository.revision, endpoint=self._endpoint
        )
        with (
            self._in_words(repository.name, repository.revision),
            self._hf.get_session().stream("GET", url, headers=headers, timeout=self._timeout_s) as response,
        ):
            hf_raise_for_status(response)
            self._check_commit(repository, file, response)
            yield Body(_start(response, start), response.iter_bytes())

    def _check_commit(self, repository: Repository, file: RemoteFile, response: httpx2.Response) -> None:
        """The file store that large files are redirected to says nothing of commits; the hub does."""
        for step in (*response.history, response):
            commit = step.headers.get("x-repo-commit", repository.revision)
            if commit != repository.revision:
                raise RefusedError(
                    f"{self.host} sent {file.path} from another commit than {repository.revision[:12]}"
                )

    @contextmanager
    def _expecting_a_hub(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RefusedError(
                f"{self.host} answered with something that is not a hub's listing; check HF_ENDPOINT"
            ) from error

    @contextmanager
    def _in_words(self, name: str, revision: str | None) -> Iterator[None]:
        """The border: what huggingface_hub and its HTTP client raise becomes a sentence."""
        import httpx2
        from huggingface_hub import errors

        try:
            yield
        except errors.OfflineModeIsEnabled as error:
            raise RefusedError("HF_HUB_OFFLINE is set, so nothing can be downloaded; unset it") from error
        except errors.HfHubHTTPError as error:
            raise self._refusal(error, name, revision) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise HubBusyError(f"can't reach {self.host}; is this machine online?") from error
        except (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError) as error:
            raise HubBusyError(f"the connection to {self.host} was lost") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            kind = type(error).__name__  # its text may hold a header
            raise RefusedError(f"can't ask {self.host} ({kind}); check HF_ENDPOINT and the token") from error

    def _refusal(self, error: HfHubHTTPError, name: str, revision: str | None) -> RefusedError:
        from huggingface_hub import errors

        status = error.response.status_code
        if isinstance(error, errors.GatedRepoError):
            return RefusedError(
                f"{name} is gated: accept its terms at {self._page(name)}, then {_GIVE_TOKEN}"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return RefusedError(f"{name} has no revision {revision!a}")
        if isinstance(error, errors.DisabledRepoError):
            return RefusedError(f"{name} was disabled on {self.host}")
        if isinstance(error, errors.RemoteEntryNotFoundError):
            return RefusedError(f"{self.host} lists a file of {name} that it does not have")
        if status == 403:
            return RefusedError(
                f"{self.host} forbids access to {name}; {_GIVE_TOKEN} of an account that may read it"
            )
        if status == 401 and self._token:
            return RefusedError(
                f"{self.host} shows no {name} to the token that is in use; {_GIVE_TOKEN} that may"
            )
        if status in (401, 404):
            return RefusedError(
                f"there is no model {name} on {self.host}, or it is private: then {_GIVE_TOKEN}"
            )
        if status in (408, 429) or status >= 500:
            return _busy(self.host, status, error.response.headers.get("retry-after", ""))
        return RefusedError(f"{self.host} refused with status {status}")

    def _page(self, name: str) -> str:
        return f"{urlsplit(self._endpoint).scheme}://{self.host}/{name}"


def _given_endpoint() -> str:
    """HF_ENDPOINT, which huggingface_hub would trip over if it were no address; "" when not given."""
    given = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    try:
        parts = urlsplit(given)
        fit = not given or (parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        fit = False
    if not fit:
        raise RefusedError("HF_ENDPOINT is not an address such as https://hub.example; correct or unset it")
    return given


def _token(read: Callable[[], str | None]) -> str | Literal[False]:
    """The user's token of the hub; False when there is none, or it must not be used unasked."""
    from huggingface_hub import constants

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return False
    try:
        found = read() or ""
    except (OSError, ValueError) as error:
        raise RefusedError(f"the hub's token can't be read from {constants.HF_TOKEN_PATH}") from error
    if not found.isascii() or not found.isprintable():
        raise RefusedError("the hub's token is none: letters, digits and underscores were expected")
    return found or False


def _busy(host: str, status: int, retry_after: str) -> RefusedError:
    wait_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
    if wait_s is not None and wait_s > _LONGEST_WAIT_S:
        return RefusedError(f"{host} answered {status} and wants {wait_s:.0f} s of rest; try again then")
    return HubBusyError(f"{host} answered {status}", wait_s=wait_s)


def _listed(path: Any, size: Any, entry: Any) -> RemoteFile | None:
    """A file of the listing; None when it comes without its size. ValueError for what can't be."""
    if size is None:
        return None
    sha256 = entry.lfs.sha256 if entry.lfs is not None else None
    if not isinstance(path, str) or type(size) is not int or size < 0:
        raise ValueError("a file's name and size")
    if sha256 is not None and (not isinstance(sha256, str) or _SHA256.fullmatch(sha256) is None):
        raise ValueError("a file's hash")
    return RemoteFile(path, size, sha256, str(entry.blob_id))


def _start(response: httpx2.Response, wanted: int) -> int:
    if response.status_code == 200:
        return 0
    told = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status_code != 206 or told is None or int(told[1]) != wanted:
        raise RefusedError("the hub sent another part of a file than was asked for")
    return wanted
