"""PostgreSQL's own socket, seen through a wire that can be cut right after a COMMIT took effect.

The server answers a statement and says that it is ready again; the client never hears it. What was asked is committed.
"""

import asyncio
import contextlib
from pathlib import Path

CHUNK_BYTES = 256 * 1024
READY_IDLE = b"Z\x00\x00\x00\x05I"
"""ReadyForQuery, in no transaction: what came before it is committed."""


class Wire:
    """A Unix socket in `folder` that passes on to the server's. `lose` names whose answer is lost next."""

    def __init__(self, folder: Path, server: Path) -> None:
        self.folder = folder
        self.lost = 0
        self._name = ".s.PGSQL.5432"
        self._server = server / self._name
        self._marker = b""
        self._listening: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to pass on."""
        self._listening = await asyncio.start_unix_server(self._connected, self.folder / self._name)

    def close(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.close()

    def lose(self, marker: bytes) -> None:
        """Cut the connection whose next statement holds `marker`, when the server has committed it. Once."""
        self._marker = marker

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_unix_connection(self._server)
        armed = asyncio.Event()
        ways = (
            asyncio.create_task(self._asked(reader, onward, armed)),
            asyncio.create_task(self._answered(there, writer, armed)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, onward):
                with contextlib.suppress(OSError):
                    end.transport.abort()

    async def _asked(self, reader: asyncio.StreamReader, onward: asyncio.StreamWriter, armed: asyncio.Event) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._marker and self._marker in data:
                self._marker = b""
                armed.set()
            onward.write(data)
            await onward.drain()

    async def _answered(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, armed: asyncio.Event) -> None:
        while data := await there.read(CHUNK_BYTES):
            if armed.is_set():
                if data.endswith(READY_IDLE):
                    self.lost += 1
                    return
                continue
            writer.write(data)
            await writer.drain()
