"""Bodies of HTTP requests while they come in: as many as come, however slowly, but no more bytes than may lie there."""

from __future__ import annotations

from aiohttp import web

from serving.modelserver.errors import invalid, unavailable


class Uploads:
    """What has come of the bodies that are not whole yet; used from one event loop only."""

    def __init__(self, most_bytes: int | None) -> None:
        """most_bytes: of all of them together; None: as many as come."""
        self._most_bytes, self._bytes = most_bytes, 0

    async def read(self, request: web.Request) -> bytes:
        """The whole body.

        Raises HTTPRequestEntityTooLarge where it has more than a request may have, and ServingError: INVALID_ARGUMENT
        where it cannot be read, UNAVAILABLE where others that are not whole leave no room for it.
        """
        body = bytearray()
        try:
            while chunk := await request.content.readany():
                self._add(chunk, body, request.client_max_size)
        except web.RequestPayloadError as error:  # it is not compressed as it says
            request.content.feed_eof()  # else aiohttp would go on reading it
            raise invalid(f"JSON Parse error: The body cannot be read: {error}") from None
        finally:
            self._bytes -= len(body)
        return bytes(body)

    def _add(self, chunk: bytes, body: bytearray, most: int) -> None:
        if len(body) + len(chunk) > most:
            raise web.HTTPRequestEntityTooLarge(most, len(body) + len(chunk))
        if self._most_bytes is not None and self._bytes + len(chunk) > self._most_bytes:
            raise unavailable(f"{self._bytes} bytes of other requests are being received already; try again later")
        body += chunk
        self._bytes += len(chunk)
