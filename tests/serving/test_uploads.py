"""Bodies of HTTP requests as they come in, from a stub of aiohttp's request; `test_http_bounds.py` has the real one."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from serving.modelserver.errors import ServingError
from serving.modelserver.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Coroutine

MOST = 1000
"""Bytes of one body."""


class Coming:
    """A body that comes part by part; after the last one it ends, or where it `stalls` does not."""

    def __init__(self, *parts: bytes, stalls: bool = False) -> None:
        self._parts, self._stalls = list(parts), stalls

    async def readany(self) -> bytes:
        await asyncio.sleep(0)
        if self._parts:
            return self._parts.pop(0)
        if self._stalls:
            await asyncio.Event().wait()
        return b""


def request(*parts: bytes, coding: str = "", length: int | None = None, stalls: bool = False) -> Any:
    headers = {"Content-Encoding": coding} if coding else {}
    content = Coming(*parts, stalls=stalls)
    return SimpleNamespace(headers=headers, content_length=length, client_max_size=MOST, content=content)


def done(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@pytest.mark.parametrize(
    ("coding", "sent"),
    [
        ("", b"12345" * 200),
        ("identity", b"12345" * 200),
        ("GZIP", gzip.compress(b"12345" * 200)),
        ("deflate", zlib.compress(b"12345" * 200)),
    ],
    ids=["as it is", "identity", "gzip", "deflate"],  # what gzip makes has the time in it
)
@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_a_body_of_all_that_it_may_have_is_read_whole(coding: str, sent: bytes, at_once: int) -> None:
    parts = [sent[at : at + at_once] for at in range(0, len(sent), at_once)]
    assert done(Uploads(MOST).read(request(*parts, coding=coding))) == b"12345" * 200


@pytest.mark.parametrize(
    ("refused", "error", "says"),
    [
        (request(b"x" * 600, b"x" * 401), web.HTTPRequestEntityTooLarge, None),
        (request(length=MOST + 1), web.HTTPRequestEntityTooLarge, None),
        (request(gzip.compress(bytes(10 << 20)), coding="gzip"), web.HTTPRequestEntityTooLarge, None),
        (request(b"x" * 100, b"", coding="gzip"), ServingError, "not compressed as gzip"),
        (request(gzip.compress(b"x" * 600)[:-1], coding="gzip"), ServingError, "it ends before its end"),
        (request(gzip.compress(b"x" * 600), b"more", coding="gzip"), ServingError, "it goes on after its end"),
        (request(b"x", coding="br"), ServingError, "Content-Encoding br is not known"),
    ],
)
def test_what_is_refused_leaves_all_room_to_others(refused: Any, error: type[Exception], says: str | None) -> None:
    uploads = Uploads(MOST)

    async def main() -> None:
        with pytest.raises(error, match=says):
            await uploads.read(refused)
        assert await uploads.read(request(b"y" * MOST)) == b"y" * MOST

    done(main())


def test_who_gives_up_leaves_all_room_to_others_and_who_is_slow_leaves_some() -> None:
    uploads = Uploads(MOST)

    async def main() -> None:
        slow = asyncio.ensure_future(uploads.read(request(b"x" * 400, b"x" * 200, stalls=True)))
        await asyncio.sleep(0.05)
        assert await uploads.read(request(b"y" * 400)) == b"y" * 400
        with pytest.raises(ServingError, match=r"^600 bytes of other requests are being received already"):
            await uploads.read(request(b"y" * 300, b"y" * 101))
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert len(await uploads.read(request(b"y" * MOST))) == MOST

    done(main())


def test_without_a_bound_as_many_come_as_come() -> None:
    uploads = Uploads(None)

    async def main() -> None:
        slow = [asyncio.ensure_future(uploads.read(request(b"x" * MOST, stalls=True))) for _ in range(50)]
        await asyncio.sleep(0.05)
        assert len(await uploads.read(request(b"y" * MOST))) == MOST
        assert not any(each.done() for each in slow)
        for each in slow:
            each.cancel()

    done(main())
