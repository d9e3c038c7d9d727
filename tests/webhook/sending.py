"""A provider that calls back: signed bodies, and raw HTTP so that every byte is the test's own."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NOW_S = 1_900_000_000.0
SECRET = "whsec_first"
SECOND_SECRET = "whsec_second"
ACCOUNT = "acct_shop"
PATH = f"/webhooks/sandbox/{ACCOUNT}"
SIGNATURE = "Sandbox-Signature"

Headers = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


def event(event_id: str = "evt_1", **fields: object) -> bytes:
    """An event as the sandbox writes it."""
    data = {"object": {"object": "payment", "id": "sp_1"}}
    about = {"id": event_id, "object": "event", "type": "payment.captured", "livemode": False, "account": "sandbox_1"}
    return json.dumps({**about, "created": 1, "data": data, **fields}).encode()


def signature(body: bytes, *, secret: str = SECRET, at_s: float = NOW_S) -> str:
    """The signature header's value."""
    signed = hmac.new(secret.encode(), f"{at_s:.0f}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s:.0f},v1={signed}"


def signed(body: bytes, *, secret: str = SECRET, at_s: float = NOW_S) -> list[tuple[str, str | bytes]]:
    """The headers of a genuine callback."""
    return [("Content-Type", "application/json"), (SIGNATURE, signature(body, secret=secret, at_s=at_s))]


def head(path: str, headers: Headers, *, method: str = "POST") -> bytes:
    """The bytes before a body."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: sidecar"]
    for name, value in headers:
        lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()))
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def post(port: int, body: bytes, headers: Headers, *, path: str = PATH, method: str = "POST") -> Answer:
    """Send one whole request on a connection of its own; its answer."""
    sent = [*headers, ("Content-Length", str(len(body)))]
    return await exchange(port, [head(path, sent, method=method), body])


async def get(port: int, path: str) -> Answer:
    """The answer to a GET."""
    return await exchange(port, [head(path, (), method="GET")])


async def exchange(port: int, parts: Iterable[bytes]) -> Answer:
    """Send these bytes and read one answer; a sidecar that has answered need not take the rest."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
        except ConnectionError:
            pass
        return await read_answer(reader)
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """One answer. Raises IncompleteReadError where the connection ends without one."""
    status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = await reader.read()
    return Answer(int(status_line.split()[1]), headers, body)
