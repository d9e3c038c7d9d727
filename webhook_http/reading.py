"""Reading a request: what its head refuses, then the raw bytes, never more of them than the bound, never for ever."""

import asyncio

from starlette.datastructures import Headers
from starlette.requests import Request

from webhook_http.refusals import Refusal, Refused

MEDIA_TYPE = "application/json"
CHARSET = "charset=utf-8"


def check_head(headers: Headers, *, head_bytes_max: int, body_bytes_max: int) -> None:
    """Refuse by the head alone. Raises Refused."""
    # h11 counts only a head that comes in pieces; one that is complete in a single read passes it.
    if sum(len(name) + len(value) for name, value in headers.raw) > head_bytes_max:
        raise Refused(Refusal.HEAD_TOO_LARGE)
    # With an encoding there would be two bodies, the signed one and the decoded one, and a bomb to defuse.
    if any(encoding.strip().lower() != "identity" for encoding in headers.getlist("content-encoding")):
        raise Refused(Refusal.ENCODED)
    if not _is_json(headers.getlist("content-type")):
        raise Refused(Refusal.BAD_CONTENT_TYPE)
    # h11 has refused what is no number, and two that differ.
    length = headers.get("content-length")
    if length is not None and int(length) > body_bytes_max:
        raise Refused(Refusal.TOO_LARGE, f"{length[:20]} bytes announced")


async def read_body(request: Request, *, bytes_max: int, seconds_max: float) -> bytes:
    """The body as it came. Raises Refused, and starlette's ClientDisconnect.

    Beyond `bytes_max` there is at most one read of uvicorn's in memory (64 KiB and what one socket read gives).
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds_max):
            async for chunk in request.stream():
                # Content-Length may be absent or may lie: what comes is what counts.
                if len(body) + len(chunk) > bytes_max:
                    raise Refused(Refusal.TOO_LARGE, f"more than {bytes_max} bytes came")
                body += chunk
    except TimeoutError:
        raise Refused(Refusal.BODY_LATE, f"{len(body)} bytes within {seconds_max} s") from None
    return bytes(body)


def _is_json(content_types: list[str]) -> bool:
    if len(content_types) != 1:
        return False
    media_type, *parameters = (part.strip().lower() for part in content_types[0].split(";"))
    return media_type == MEDIA_TYPE and all(part.replace('"', "") in ("", CHARSET) for part in parameters)
