"""Memory and start: idle, with many open streams, and while a 200 MB upload goes through."""

from __future__ import annotations

import asyncio
import time

from tests.benchmarks import load
from tests.benchmarks.gateway import gateway
from tests.benchmarks.processes import Process, child

_MB = 1 << 20


def report() -> None:
    with child(["-m", "tests.benchmarks.sink"], core=1) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        starts = []
        for _ in range(3):
            with gateway(url, core=0) as ours:
                starts.append(ours.started_s)
        print(f"start to listening: {load.median(starts):.2f} s (median of {len(starts)})")
        with gateway(url, core=0) as ours:
            idle = ours.rss_mib()
            asyncio.run(_upload(ours, 1))
            small = ours.rss_mib()
            peak, took = asyncio.run(_upload(ours, 200))
            print(
                f"idle {idle:.0f} MiB; 200 MB multipart upload, model last: peak {peak:.0f} MiB "
                f"(+{peak - small:.0f}), {took:.1f} s"
            )


async def _upload(process: Process, size_mb: int) -> tuple[float, float]:
    """Send a form whose model comes after its file; the highest RSS meanwhile and the seconds it took."""
    border = b"----mlxgatewaybench"
    head = b"--" + border + b'\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    tail = (
        b"\r\n--"
        + border
        + b'\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--'
        + border
        + b"--\r\n"
    )
    size = len(head) + size_mb * _MB + len(tail)
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    began = time.monotonic()
    writer.write(
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
        b"content-type: multipart/form-data; boundary=%b\r\ncontent-length: %d\r\n\r\n"
        % (process.port, border, size)
    )
    writer.write(head)
    peak = process.rss_mib()
    block = bytes(_MB)
    for _ in range(size_mb):
        writer.write(block)
        await writer.drain()
        peak = max(peak, process.rss_mib())
    writer.write(tail)
    await writer.drain()
    answer = asyncio.ensure_future(reader.readuntil(b"}"))
    while not answer.done():
        peak = max(peak, process.rss_mib())
        await asyncio.wait([answer], timeout=0.01)
    assert b"200 OK" in answer.result(), answer.result()[:200]
    writer.close()
    return peak, time.monotonic() - began
