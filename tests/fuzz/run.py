"""Send crafted requests to the sidecar's application, with a real gateway's gRPC behind it, and judge every answer."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog

from obol.v1.provider_callbacks_pb2 import DeliverCallbackRequest, DeliverCallbackResponse
from providers.sandbox.callbacks import interpret
from tests.fuzz.crafting import Crafted, craft
from tests.webhook.sending import ACCOUNT, NOW_S, SECRET
from tests.webhook.serving import Inbox, account, gateway
from webhook_http.app import build_app
from webhook_http.settings import SidecarLimits, SidecarSettings

AT_ONCE = 16
ANSWER_S_MAX = 20.0
STATUSES = frozenset({200, 400, 401, 404, 405, 408, 413, 415, 431, 499, 503})
DEFECTS = frozenset({"DEFECT", "VERIFIER_FAILED"})
FINDINGS_KEPT_MAX = 50


class _Gateway(Inbox):
    """Keeps digests of what it was handed, and reads it as the gateway would: only ValueError may come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: set[bytes] = set()
        self.signed: set[bytes] = set()
        """What our secret signed, of all that was sent."""
        self.known: set[str] = set()
        self.broken: list[str] = []

    async def DeliverCallback(self, request: DeliverCallbackRequest, context: Any) -> DeliverCallbackResponse:
        self.bodies.add(sha256(request.body).digest())
        try:
            interpret(request.body)
        except ValueError:
            pass
        except Exception as error:  # noqa: BLE001 that is what is looked for
            self.broken.append(f"interpret raised {error!r} of {request.body[:200]!r}")
        duplicate = request.event_id in self.known
        self.known.add(request.event_id)
        return DeliverCallbackResponse(callback_id="" if duplicate else "cbk_1", duplicate=duplicate)


@dataclass
class Fuzzed:
    """What came of a run."""

    seed: int
    requests: int = 0
    accepted: int = 0
    forged_accepted: int = 0
    uncaught: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The last line."""
        return (
            f"fuzz: requests={self.requests} accepted={self.accepted} forged_accepted={self.forged_accepted} "
            f"uncaught={self.uncaught}"
        )

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.forged_accepted or self.uncaught)

    def found(self, made: Crafted, what: str) -> None:
        """Keep a finding: the seed and the number make the request again."""
        if len(self.findings) < FINDINGS_KEPT_MAX:
            self.findings.append(f"seed {self.seed} request {made.number} ({made.kind}): {what}")


async def fuzz(seed: int, first: int, count: int) -> Fuzzed:
    """Send requests `first` to `first + count - 1` of a seed."""
    fuzzed, defects = Fuzzed(seed), list[str]()
    numbers = iter(range(first, first + count))
    async with _sidecar(defects) as (app, inbox):

        async def sender() -> None:
            for number in numbers:
                made = craft(seed, number)
                await _judge(app, inbox, made, fuzzed)

        await asyncio.gather(*(sender() for _ in range(AT_ONCE)))
        for told in (*defects, *inbox.broken):
            fuzzed.uncaught += 1
            fuzzed.findings.append(told)
        # Also of what was answered with something else than 200.
        if inbox.bodies - inbox.signed:
            fuzzed.forged_accepted += len(inbox.bodies - inbox.signed)
            fuzzed.findings.append(f"{len(inbox.bodies - inbox.signed)} bodies were delivered that nobody signed")
    return fuzzed


async def _judge(app: Any, inbox: _Gateway, made: Crafted, fuzzed: Fuzzed) -> None:
    fuzzed.requests += 1
    if made.authentic:
        inbox.signed.add(sha256(made.body).digest())
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            status = await _send(app, made)
    except Exception as error:  # noqa: BLE001 that is what is looked for
        fuzzed.uncaught += 1
        fuzzed.found(made, f"the application raised {error!r}")
        return
    delivered = sha256(made.body).digest() in inbox.bodies
    if status not in STATUSES and not (made.leaves and status == 0):
        fuzzed.uncaught += 1
        fuzzed.found(made, f"was answered with {status}")
    reaches = made.path.startswith("/webhooks/") and made.method == "POST"
    if status == 200 and reaches:
        fuzzed.accepted += 1
        fuzzed.by_kind[made.kind] += 1
        if not made.authentic or not delivered:
            fuzzed.forged_accepted += 1
            fuzzed.found(made, "was taken" if not made.authentic else "was answered with 200 and not delivered")


async def _send(app: Any, made: Crafted) -> int:
    """The status; 0 where the application answers nothing to a sender who has left."""
    chunks = list(made.chunks)
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if made.leaves and len(chunks) <= 1:
            return {"type": "http.disconnect"}
        if not chunks:
            await asyncio.sleep(ANSWER_S_MAX)
        body = chunks.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(chunks)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": made.method,
        "scheme": "http",
        "path": made.path,
        "raw_path": made.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(made.headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    return statuses[0] if statuses else 0


@asynccontextmanager
async def _sidecar(defects: list[str]) -> AsyncIterator[tuple[Any, _Gateway]]:
    """The application with its lifespan, whose clock stands; what it logs as its own defect is kept."""

    def looked_at(_: Any, __: str, line: Any) -> str:
        if line.get("outcome") in DEFECTS:
            defects.append(f"{line['outcome']}: {line.get('why')}")
        return ""

    inbox = _Gateway()
    with tempfile.TemporaryDirectory(prefix="obol-") as directory:
        target = f"unix:{Path(directory) / 'grpc.sock'}"
        settings = SidecarSettings(target, (account(ACCOUNT, SECRET),), limits=SidecarLimits(callbacks_max=AT_ONCE))
        log = structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[looked_at])
        app = build_app(settings, log=log, now_s=lambda: NOW_S)
        async with gateway(inbox, target), app.router.lifespan_context(app):
            yield app, inbox
