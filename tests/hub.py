"""A small model hub on loopback that speaks what a pull needs, and misbehaves on command.

    with Hub() as hub:
        sha = hub.publish("tiny-org/tiny", make_model(tmp_path / "tiny"))
        hub.fault("model.safetensors", Fault(hold=5000))
        ...                                   # run the command with hub.env(...)
        assert hub.fetched() == []            # no file was asked for

Weights are in a store under another origin (`localhost` instead of 127.0.0.1), as the real hub has them,
so that a token that crosses shows. It runs in a thread; what it is told, it does from the next request on.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import pytest
from aiohttp import web


@dataclass(frozen=True)
class Fault:
    """What is wrong with one answer, or with so many `times` of them."""

    status: int = 0  # instead of the file
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None  # end the connection after so many bytes
    hold: int | None = None  # say nothing more after so many bytes
    content: bytes | None = None  # another one
    whole: bool = False  # the range is ignored
    times: float = 1


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class _Commit:
    files: dict[str, bytes]
    listed: dict[str, dict[str, Any]]  # what the listing says instead of the truth


class Hub:
    """The hub. `publish` makes a commit; `fault` spoils what comes next of a file."""

    def __init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hub")
        self._runner: web.AppRunner | None = None
        self.reset()

    def reset(self) -> None:
        """Be as new: nothing published, nothing wrong, nothing asked."""
        self.asked: list[Asked] = []
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.sizes = True  # False: as mirrors that list names only
        self.after_listing: Callable[[], object] | None = None  # called once, when a listing has been made
        self._commits: dict[str, dict[str, _Commit]] = defaultdict(dict)
        self._branches: dict[tuple[str, str], str] = {}
        self._faults: dict[str, deque[list[Any]]] = defaultdict(deque)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def env(self, home: Path, **more: str) -> dict[str, str]:
        """The environment of a command that is to use this hub, and no token or cache of anyone."""
        usual = {"HF_ENDPOINT": self.url, "HF_HOME": str(home / "hf"), "HF_TOKEN": ""}
        # No authority is wanted here, and to read the system's takes longer than the rest.
        return {**usual, "SSL_CERT_DIR": str(home), **more}

    def use(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        """The same for commands in this process, where huggingface_hub may have been imported before."""
        for name, value in self.env(home).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def publish(
        self,
        repo: str,
        files: Path | Mapping[str, bytes],
        *,
        branch: str = "main",
        listed: Mapping[str, dict[str, Any]] | None = None,
    ) -> str:
        """Make a commit of a folder or of named contents and move the branch to it; returns its sha."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in sorted(files.iterdir())}
        told = "".join(f"{name}\0{hashlib.sha1(data).hexdigest()}\n" for name, data in files.items())
        sha = hashlib.sha1(f"{repo}\n{told}".encode()).hexdigest()
        self._commits[repo][sha] = _Commit(dict(files), dict(listed or {}))
        self._branches[repo, branch] = sha
        return sha

    def fault(self, name: str, *faults: Fault) -> None:
        """Spoil the next answers that carry the file (or with "listing", that list a repository)."""
        self._faults[name].extend([fault, fault.times] for fault in faults)

    def mend(self) -> None:
        self._faults.clear()

    def fetched(self) -> list[Asked]:
        """The requests for files since the last `forget`, not counting redirects to the store."""
        return [asked for asked in self.asked if "/resolve/" in asked.path]

    def ranges(self, name: str) -> list[str | None]:
        """From where on the file was asked for, each time."""
        return [asked.range for asked in self.fetched() if asked.path.endswith(f"/{name}")]

    def forget(self) -> None:
        self.asked.clear()

    # --- the server -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._runner is not None
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/api/models/{org}/{name}/revision/{revision}", self._info)
        app.router.add_get("/api/models/{org}/{name}/tree/{revision}", self._tree)
        app.router.add_get("/{org}/{name}/resolve/{revision}/{path:.*}", self._resolve)
        app.router.add_get("/store/{repo:.*}@{sha}/{path:.*}", self._store)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def _note(self, request: web.Request) -> str:
        headers = request.headers
        path = unquote(request.rel_url.raw_path)
        self.asked.append(Asked(request.method, path, headers.get("range"), headers.get("authorization")))
        return f"{request.match_info['org']}/{request.match_info['name']}"

    def _next_fault(self, name: str) -> Fault | None:
        waiting = self._faults[name]
        if not waiting:
            return None
        waiting[0][1] -= 1
        fault = waiting[0][0]
        if waiting[0][1] <= 0:
            waiting.popleft()
        assert isinstance(fault, Fault)
        return fault

    def _commit(self, request: web.Request, repo: str) -> tuple[str, _Commit]:
        token = request.headers.get("authorization")
        if repo not in self._commits or (repo in self.private and token is None):
            raise _error(404 if token else 401, "RepoNotFound", "Invalid username or password.")
        revision = request.match_info["revision"]
        sha = self._branches.get((repo, revision), revision)
        if sha not in self._commits[repo]:
            raise _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha, self._commits[repo][sha]

    async def _info(self, request: web.Request) -> web.Response:
        repo = self._note(request)
        fault = self._next_fault("listing")
        if fault is not None:
            return web.Response(status=fault.status, headers=fault.headers, body=fault.content)
        sha, commit = self._commit(request, repo)
        siblings: list[dict[str, Any]] = []
        for name in commit.files:
            siblings.append({"rfilename": name})
            if self.sizes and request.query.get("blobs"):
                entry = _entry(commit, name)
                if lfs := entry.pop("lfs", None):
                    siblings[-1]["lfs"] = {**lfs, "sha256": lfs["oid"]}
                siblings[-1] |= {"size": entry["size"], "blobId": entry["oid"]}
        if self.after_listing is not None:
            self.after_listing, then = None, self.after_listing
            then()
        gated = "manual" if repo in self.gated else False
        return web.json_response({"id": repo, "sha": sha, "siblings": siblings, "gated": gated})

    async def _tree(self, request: web.Request) -> web.Response:
        repo = self._note(request)
        _, commit = self._commit(request, repo)
        folder = {"type": "directory", "path": "sub", "oid": "0" * 40, "size": 0}
        return web.json_response([folder, *(_entry(commit, name) for name in commit.files)])

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        repo = self._note(request)
        sha, commit = self._commit(request, repo)
        if repo in self.gated and request.headers.get("authorization") != "Bearer hf_may_read":
            raise _error(403, "GatedRepo", f"Access to model {repo} is restricted")
        path = request.match_info["path"]
        if path not in commit.files:
            raise _error(404, "EntryNotFound", "Entry not found")
        headers = {"x-repo-commit": sha, "etag": f'"{_entry(commit, path)["oid"]}"'}
        if not _is_large(path):
            return await self._send(request, path, commit.files[path], headers)
        digest = hashlib.sha256(commit.files[path]).hexdigest()
        headers |= {"x-linked-size": str(len(commit.files[path])), "x-linked-etag": f'"{digest}"'}
        headers["location"] = f"http://localhost:{self.port}/store/{repo}@{sha}/{path}"
        return web.Response(status=302, headers=headers)

    async def _store(self, request: web.Request) -> web.StreamResponse:
        headers = request.headers
        self.asked.append(Asked("GET", request.path, headers.get("range"), headers.get("authorization")))
        info = request.match_info
        return await self._send(
            request, info["path"], self._commits[info["repo"]][info["sha"]].files[info["path"]], {}
        )

    async def _send(
        self, request: web.Request, path: str, data: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        fault = self._next_fault(path) or Fault()
        if fault.status:
            return web.Response(status=fault.status, headers=fault.headers)
        data = data if fault.content is None else fault.content
        start, status = 0, 200
        if request.http_range.start and not fault.whole:
            start, status = request.http_range.start, 206
            headers["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        response = web.StreamResponse(status=status, headers={**headers, **fault.headers})
        response.content_length = len(data) - start
        await response.prepare(request)
        if request.method == "HEAD":  # aiohttp would send what is written all the same
            return response
        end = min(start + _first(fault.cut, fault.hold, math.inf), len(data))
        await response.write(data[start : int(end)])
        if fault.hold is not None:
            await asyncio.Event().wait()  # until the client leaves, or the hub closes
        if fault.cut is not None and request.transport is not None:
            request.transport.abort()
        return response


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


def _entry(commit: _Commit, name: str) -> dict[str, Any]:
    """A file as the tree lists it."""
    data = commit.files[name]
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": blob}
    if _is_large(name):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry | commit.listed.get(name, {})


def _error(status: int, code: str, message: str) -> web.HTTPException:
    kind = {401: web.HTTPUnauthorized, 403: web.HTTPForbidden, 404: web.HTTPNotFound}[status]
    return kind(headers={"x-error-code": code, "x-error-message": message})
