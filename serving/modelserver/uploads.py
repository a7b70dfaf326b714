"""Bodies of HTTP requests while they come in: as many as come, however slowly, but only so many bytes of them."""

from __future__ import annotations

import zlib

from aiohttp import web

from serving.modelserver.errors import invalid, unavailable

_GZIP, _DEFLATE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS
"""What zlib calls the formats that a body may be compressed in."""
_UNREADABLE = ("br", "zstd", "compress")
"""Codings that it may not have."""


class Uploads:
    """What has come of the bodies that are not whole yet; used from one event loop only."""

    def __init__(self, most_bytes: int | None) -> None:
        """most_bytes: of all of them together, decompressed; None: as many as come."""
        self._most_bytes, self._bytes = most_bytes, 0

    async def read(self, request: web.Request) -> bytearray:
        """The whole body, decompressed. aiohttp must not do that: it would go on with what is refused.

        Raises HTTPRequestEntityTooLarge where it has more than a request may have, and ServingError: INVALID_ARGUMENT
        where it is not compressed as it says, UNAVAILABLE where others that are not whole leave no room for it.
        """
        most, body = request.client_max_size, bytearray()
        if (request.content_length or 0) > most:
            raise web.HTTPRequestEntityTooLarge(most, request.content_length or 0)
        coding = request.headers.get("Content-Encoding", "").strip().lower()
        decompressed = _Decompressed(_format(coding))
        try:
            while chunk := await request.content.readany():
                self._add(decompressed.next(chunk, most + 1 - len(body)), body, most)
            decompressed.end()
        except zlib.error as error:
            raise invalid(f"JSON Parse error: The body is not compressed as {coding}: {error}") from None
        except web.RequestPayloadError as error:
            raise invalid(f"JSON Parse error: The body cannot be read: {error}") from None
        finally:
            self._bytes -= len(body)
        return body

    def _add(self, part: bytes, body: bytearray, most: int) -> None:
        if len(body) + len(part) > most:
            raise web.HTTPRequestEntityTooLarge(most, len(body) + len(part))
        if self._most_bytes is not None and self._bytes + len(part) > self._most_bytes:
            others = self._bytes - len(body)
            raise unavailable(f"{others} bytes of other requests are being received already; try again later")
        body += part
        self._bytes += len(part)


class _Decompressed:
    """A body without its compression, part by part."""

    def __init__(self, compressed: int | None) -> None:
        """compressed: zlib's name of the format; None: it is not."""
        self._stream = zlib.decompressobj(compressed) if compressed is not None else None

    def next(self, chunk: bytes, most: int) -> bytes:
        """What the next chunk holds, no more than `most` bytes of it; raises zlib.error."""
        if self._stream is None:
            return chunk
        part = self._stream.decompress(chunk, most)
        if self._stream.unused_data:
            raise zlib.error("it goes on after its end")
        return part

    def end(self) -> None:
        """Raise zlib.error where more was to come."""
        if self._stream is not None and not self._stream.eof:
            raise zlib.error("it ends before its end")


def _format(coding: str) -> int | None:
    """What the header `Content-Encoding`, in lower case, says a body is compressed in; raises ServingError.

    As in TensorFlow Serving whatever has gzip in it is that, and what is no coding means nothing: there are clients
    that give a character set.
    """
    if coding in _UNREADABLE:
        raise invalid(f"Content-Encoding {coding} is not known; send gzip, deflate, or the body as it is")
    if "gzip" in coding:
        return _GZIP
    return _DEFLATE if coding == "deflate" else None
