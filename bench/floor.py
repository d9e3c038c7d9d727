"""The floor's server: `python -m bench.floor URL`. A bare grpc.aio server on uvloop that writes and echoes.

Bytes in, bytes out: no message is parsed, no caller is known, nothing is counted or logged.
"""

import asyncio
import signal
import sys
import uuid

import grpc
import grpc.aio
import uvloop

from bench.databases import place_of
from bench.floor_books import Books, PostgresqlBooks, SqliteBooks
from bench.requests import CREATE_RESPONSE_BYTES

FLOOR = "/bench.Floor/Pay"
_RESPONSE = b"r" * CREATE_RESPONSE_BYTES


async def serve(url: str) -> None:
    """Serve on a free port of the loopback until SIGTERM."""
    books = await _open(url)

    async def pay(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        key = uuid.uuid4().hex
        await books.claim(key)
        await books.settle(key)
        return _RESPONSE

    server = grpc.aio.server()
    service, method = FLOOR.strip("/").split("/")
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {method: grpc.unary_unary_rpc_method_handler(pay)}
    server.add_registered_method_handlers(service, handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    print(f"the floor serves at 127.0.0.1:{port}", flush=True)
    await stopping.wait()
    await server.stop(1.0)
    await books.close()


async def _open(url: str) -> Books:
    place = place_of(url)
    if place.is_sqlite:
        return SqliteBooks(place.database)
    return await PostgresqlBooks.open(place.host, place.database)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
