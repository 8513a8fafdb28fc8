"""An upload is held only until its model is known, and sent as it came."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from gateway.errors import RequestError
from gateway.relay.upload import Upload

FILE = (
    b'--B\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 3_000_000 + b"\r\n"
)
MODEL = b'--B\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
END = b"--B--\r\n"


def upload(data: bytes, *, segment: int = 65_536, end: bool = True, idle_s: float = 5.0) -> Upload:
    class Protocol:
        """Stands where the connection is: a reader only tells it to pause and to resume."""

        _reading_paused = False
        connected = True

        def pause_reading(self) -> None: ...

        def resume_reading(self, resume_parser: bool = True) -> None: ...

    stream = aiohttp.StreamReader(Protocol(), 2**16, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
    for start in range(0, len(data), segment):
        stream.feed_data(data[start : start + segment])
    if end:
        stream.feed_eof()
    return Upload(stream, boundary=b"B", size=len(data), idle_s=idle_s)


async def _all(pieces: object) -> bytes:
    return b"".join([piece async for piece in pieces])  # type: ignore[attr-defined]


@pytest.mark.parametrize("parts", [(MODEL, FILE), (FILE, MODEL)], ids=["model first", "model last"])
async def test_what_came_goes_on(parts: tuple[bytes, bytes]) -> None:
    sent = b"".join(parts) + END
    form = upload(sent)
    await form.find_model()
    assert form.model == "whisper-1"
    assert form.replayable
    assert await _all(form.chunks()) == sent
    assert not form.replayable
    form.close()


@pytest.mark.parametrize("parts", [(MODEL, FILE), (FILE, MODEL)], ids=["model first", "model last"])
async def test_a_rename_changes_only_the_field(parts: tuple[bytes, bytes]) -> None:
    sent = b"".join(parts) + END
    form = upload(sent)
    await form.find_model()
    other = form.renamed("tiny")
    wanted = sent.replace(b"whisper-1", b"tiny")
    assert other.size == len(wanted)
    assert other.data is None
    assert await _all(other.chunks()) == wanted
    assert form.renamed("whisper-1") is form
    form.close()


async def test_the_held_part_can_be_sent_again() -> None:
    """A refused connection takes nothing of the rest, so the next target still gets all of it."""
    sent = MODEL + FILE + END
    form = upload(sent)
    await form.find_model()
    pieces = form.chunks()
    assert (await anext(pieces)).startswith(MODEL)
    await pieces.aclose()  # type: ignore[attr-defined]
    assert form.replayable
    assert await _all(form.chunks()) == sent
    form.close()


async def test_form_without_a_model() -> None:
    form = upload(FILE + END)
    await form.find_model()
    assert form.model is None
    assert await _all(form.chunks()) == FILE + END
    form.close()


async def test_upload_that_stands_still_is_a_408() -> None:
    form = upload(FILE[:1000], end=False, idle_s=0.05)
    with pytest.raises(RequestError) as caught:
        await form.find_model()
    assert caught.value.status == 408
    form.close()


async def test_a_read_does_not_move_the_place_of_another() -> None:
    """A read whose attempt was cancelled goes on in its thread while the next target gets the file: it
    could move the place from which that one read.
    """
    form = upload(FILE + MODEL + END)
    await form.find_model()
    assert form._spool is not None
    at = form._spool.tell()
    assert form._take(100, 7) == (FILE + MODEL + END)[100:107]
    assert form._spool.tell() == at
    form.close()


async def test_closed_while_it_is_written() -> None:
    """The temporary file was made after the upload had been closed, and stayed."""
    form = upload(FILE + END)
    form.close()
    form._write(bytearray(b"late"))
    assert form._spool is None or form._spool.closed
