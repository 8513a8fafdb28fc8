"""`models pull`: a model comes from a hub.

It comes in this process; a daemon that runs finds the folder when it is whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli import remote
from gateway.cli.command import Verb
from gateway.cli.home import NAME, check_owner, make_home, the_home
from gateway.cli.output import hint, line, show, size
from gateway.cli.progress import Bar, Lines, watch
from gateway.errors import GatewayError, RefusedError

if TYPE_CHECKING:
    from gateway.cloud.repository import RemoteFile, Repository

_LISTING_TRIES = 3
_FILE_TRIES = 5  # in a row that bring nothing


@dataclass(frozen=True)
class Pulled:
    """What is here in the end; the field names are those of the JSON."""

    model: str
    repo: str
    revision: str
    path: str
    size_bytes: int
    files: int
    downloaded_bytes: int


def _repository_name(_: click.Context, __: click.Parameter, value: str) -> str:
    from gateway.cloud.repository import is_repository_name

    if not is_repository_name(value):
        raise click.BadParameter("expected ORG/NAME, such as mlx-community/Qwen3-8B-4bit")
    return value


def _a_revision(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not (0 < len(value) <= 200 and value.isprintable()):
        raise click.BadParameter("expected a branch, a tag or a commit")
    return value


@click.command("pull", cls=Verb)
@click.argument("repo", metavar="ORG/NAME", callback=_repository_name)
@click.option("--revision", metavar="REV", callback=_a_revision, help="Branch, tag or commit; else main.")
@click.option("--force", is_flag=True, help="Fetch all of it again; replace also what was not pulled.")
def pull(repo: str, revision: str | None, force: bool) -> None:
    """Download a model from the Hugging Face hub; its name is ORG/NAME then.

    One that was stopped goes on where it was when it is run again, and a model that is here is
    brought up to date. Only safetensors and the text files beside them are taken, never code.
    HF_ENDPOINT names another hub; HF_TOKEN or `hf auth login` gives a token.
    """
    home = the_home()
    make_home(home)
    check_owner(home)
    watching = watch()
    try:
        pulled, news = _pull(home, repo, revision, force=force, watching=watching)
    except OSError as error:
        raise RefusedError(f"can't write {repo}: {error.strerror or error}; what came is kept") from error
    except KeyboardInterrupt:
        watching.end()
        hint("\nwhat came is kept; the same command goes on from there")
        raise
    finally:
        watching.end()
    show(asdict(pulled), lambda: line(_sentence(pulled, news=news)))
    if news:
        _tell_daemon(home, repo)


def _pull(
    home: Path, repo: str, revision: str | None, *, force: bool, watching: Bar | Lines
) -> tuple[Pulled, bool]:
    """What is here in the end, and whether it has come now."""
    from gateway.cloud.hub import Hub
    from gateway.cloud.patience import Patience
    from gateway.cloud.pull import Pull
    from gateway.cloud.repository import chosen
    from gateway.local.catalog import is_usable
    from gateway.local.shelf import Mark, Shelf

    def check(config: Path) -> None:
        if not is_usable(config):
            raise RefusedError(f"{repo} has a config.json without a model_type that MLX could know")

    shelf = Shelf(home)
    mark, folder = shelf.mark(repo), shelf.folder(repo)
    if mark is None and os.path.lexists(folder) and not force:
        raise RefusedError(f"{folder} is there and was not pulled; remove it, or replace it with --force")
    with Hub() as hub:
        listing = Patience(_LISTING_TRIES, watching.note).call(lambda: hub.repository(repo, revision))
        files = chosen(listing)
        is_latest = mark is not None and mark.revision == listing.revision and _are_in(folder, files)
        if is_latest and not force:
            return _pulled(listing, files, folder, 0), False
        with shelf.workplace(repo) as place:
            watching.note(f"pulling {repo} at {listing.revision[:12]} from {hub.host}")
            fetched = Pull(
                hub=hub,
                repository=listing,
                files=files,
                folder=place,
                installed=folder if mark is not None and not force else None,
                check=check,
                watcher=watching,
                patience=Patience(_FILE_TRIES, watching.note),
            ).run()
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            shelf.put(repo, place, Mark(repo=repo, revision=listing.revision, pulled_at=now))
    return _pulled(listing, files, folder, fetched), True


def _are_in(folder: Path, files: Sequence[RemoteFile]) -> bool:
    """Whether none of them was deleted or cut since."""
    try:
        return all((folder / file.path).stat().st_size == file.size_bytes for file in files)
    except OSError:
        return False


def _pulled(listing: Repository, files: Sequence[RemoteFile], folder: Path, fetched: int) -> Pulled:
    return Pulled(
        model=listing.name,
        repo=listing.name,
        revision=listing.revision,
        path=str(folder),
        size_bytes=sum(file.size_bytes for file in files),
        files=len(files),
        downloaded_bytes=fetched,
    )


def _sentence(pulled: Pulled, *, news: bool) -> str:
    at = f"{pulled.model} at {pulled.revision[:12]}"
    if not news:
        return f"{at} is here already; nothing to download"
    return f"pulled {at}: {pulled.files} files, {size(pulled.size_bytes)}"


def _tell_daemon(home: Path, name: str) -> None:
    """Have a daemon look at the disk now, and say what it does not do by itself."""
    with contextlib.suppress(GatewayError):  # the model is here, whatever it says
        connection = remote.connect(home)
        if connection is None:
            return
        for model in remote.ask(connection, "models.list", b"{}"):
            if model.get("name") == name and model.get("state") in ("ready", "loading"):
                hint(
                    f"the running gateway has what it was before in memory; `{NAME} models unload {name}`, "
                    "and the next request loads the new one"
                )
