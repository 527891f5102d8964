"""uvicorn's WebSocket protocol with a log of its own, and an end for what is no handshake."""

import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from monitoring.logs import SOCKETS

UNREAD_S = 30.0
"""How long a connection that has ended is kept for who has yet to read what was sent."""

_NO_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"


class Protocol(WebSocketsSansIOProtocol):
    """One connection. Sockets are known by the log lines of their questions; uvicorn's would show whole addresses.

    uvicorn closes a connection once all is sent, which is never where nobody reads: it is cut `UNREAD_S` later.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = logging.getLogger(SOCKETS)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:  # nobody else would answer, or close
            self.transport.write(b"".join(self.conn.data_to_send()) or _NO_HANDSHAKE)
            self.transport.close()

    async def run_asgi(self) -> None:
        try:
            await super().run_asgi()
        finally:
            self._cut_later()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._cut_later()

    def _cut_later(self) -> None:
        self.loop.call_later(UNREAD_S, self.transport.abort)
