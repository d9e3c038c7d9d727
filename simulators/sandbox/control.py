"""The controls under /control: what a test or a demo makes the provider do. No authentication: a tool for loopback.

    POST|DELETE|GET /control/faults                   set, heal, show (faults.py has the names)
    POST /control/payments/{id}/dispute               {amount?, status? inquiry|open, reason?}
    POST /control/payments/{id}/refund                {amount?}: made in the provider's dashboard
    POST /control/payments/{id}/expire
    POST /control/payments/{id}/reverse-capture       {capture?}
    POST /control/payments/{id}/settle-processing     {outcome: succeeded|failed}
    POST /control/payments/{id}/hide                  {hidden?}: the API denies it, or shows it again
    POST /control/payments/{id}/duplicate             a second object with the same metadata; answers with it
    POST /control/payments/{id}/falsify               {amount?, currency?, captured?, forget? refunds|captures}
    POST /control/disputes/{id}, /control/refunds/{id}   {status}
    POST|GET /control/webhooks                        {mode, duplicates, reorder, delay_ms, seed}
    POST /control/webhooks/redeliver                  {event_id}, "all" for every one
    GET  /control/effects?after=&limit=, /control/state, /control/tokens

The steps of a payment answer with the payment. The last three are wrong books: no event tells of them, and no
effect is logged.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast, get_args

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.faults import FaultPlanInvalid
from simulators.journal import EFFECTS_PAGE_MAX
from simulators.sandbox.answers import refusal_answer, sent
from simulators.sandbox.api import read_body
from simulators.sandbox.attempts import settled
from simulators.sandbox.changes import Change
from simulators.sandbox.falsehoods import FORGETTABLE, duplicated, falsified, hidden
from simulators.sandbox.movements import (
    capture_reversed,
    dispute_moved,
    disputed,
    expired,
    refund_moved,
    refunded,
)
from simulators.sandbox.outcomes import published
from simulators.sandbox.params import Params, parsed
from simulators.sandbox.payment import DisputeStatus, Payment, RefundStatus, shown_payment
from simulators.sandbox.queries import whole
from simulators.sandbox.refusals import Refusal, invalid, missing
from simulators.sandbox.sandbox import Sandbox
from simulators.webhooks import DeliveryMode

DUPLICATES_MAX = 100
DELAY_MS_MAX = 600_000
SEED_MAX = 2**63

Endpoint = Callable[[Request], Awaitable[Response]]
Step = Callable[[Payment, Params], Change]


class Control:
    """The control routes of one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[Route]:
        """Every route under /control."""
        moment = self._sandbox.moment
        steps: dict[str, tuple[tuple[str, ...], Step]] = {
            "dispute": (("amount", "status", "reason"), self._dispute),
            "refund": (("amount",), self._refund),
            "expire": ((), lambda payment, params: expired(payment, moment())),
            "reverse-capture": (
                ("capture",),
                lambda payment, params: capture_reversed(payment, moment(), params.text("capture")),
            ),
            "settle-processing": (("outcome",), self._settle),
            "hide": (("hidden",), lambda payment, params: hidden(payment, moment(), params.flag("hidden", True))),
            "duplicate": ((), lambda payment, params: duplicated(payment, moment())),
            "falsify": (("amount", "currency", "captured", "forget"), self._falsify),
        }
        return [
            *(
                Route(f"/control/payments/{{id}}/{name}", self._stepping(fields, step), methods=["POST"])
                for name, (fields, step) in steps.items()
            ),
            Route("/control/refunds/{id}", self._guarded(self._move_refund), methods=["POST"]),
            Route("/control/disputes/{id}", self._guarded(self._move_dispute), methods=["POST"]),
            Route("/control/faults", self._guarded(self._set_faults), methods=["POST"]),
            Route("/control/faults", self._guarded(self._heal_faults), methods=["DELETE"]),
            Route("/control/faults", self._guarded(self._show_faults), methods=["GET"]),
            Route("/control/webhooks", self._guarded(self._set_webhooks), methods=["POST"]),
            Route("/control/webhooks", self._guarded(self._show_webhooks), methods=["GET"]),
            Route("/control/webhooks/redeliver", self._guarded(self._redeliver), methods=["POST"]),
            Route("/control/effects", self._guarded(self._effects), methods=["GET"]),
            Route("/control/state", self._guarded(self._state), methods=["GET"]),
            Route("/control/tokens", self._guarded(self._tokens), methods=["GET"]),
        ]

    def _guarded(self, run: Callable[[Request], Awaitable[dict[str, Any]]]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            try:
                return JSONResponse(await run(request))
            except Refusal as refusal:
                return sent(refusal_answer(refusal))

        return endpoint

    def _stepping(self, fields: tuple[str, ...], step: Step) -> Endpoint:
        async def run(request: Request) -> dict[str, Any]:
            params = await self._params(request, *fields)
            payment = self._sandbox.books.any_payment(request.path_params["id"])
            return await self._booked(step(payment, params))

        return self._guarded(run)

    def _dispute(self, payment: Payment, params: Params) -> Change:
        status = cast(DisputeStatus, params.choice("status", get_args(DisputeStatus), "open"))
        reason = params.text("reason") or "fraudulent"
        return disputed(payment, self._sandbox.moment(), params.amount("amount"), status, reason)

    def _refund(self, payment: Payment, params: Params) -> Change:
        moment = self._sandbox.moment()
        return refunded(payment, moment, params.amount("amount"), None, None, {}, "dashboard")

    def _settle(self, payment: Payment, params: Params) -> Change:
        outcome = params.choice("outcome", ("succeeded", "failed"))
        return settled(payment, self._sandbox.moment(), outcome == "succeeded")

    def _falsify(self, payment: Payment, params: Params) -> Change:
        forget = params.choice("forget", ("", *FORGETTABLE), "")
        currency = params.text("currency")
        return falsified(
            payment, self._sandbox.moment(), params.amount("amount"), currency, params.amount("captured"), forget
        )

    async def _move_refund(self, request: Request) -> dict[str, Any]:
        params = await self._params(request, "status")
        status = cast(RefundStatus, params.choice("status", get_args(RefundStatus)))
        payment, refund = self._sandbox.books.refund(request.path_params["id"])
        return await self._booked(refund_moved(payment, self._sandbox.moment(), refund.id, status))

    async def _move_dispute(self, request: Request) -> dict[str, Any]:
        params = await self._params(request, "status")
        status = cast(DisputeStatus, params.choice("status", get_args(DisputeStatus)))
        dispute_id = request.path_params["id"]
        payment = self._sandbox.books.disputed(dispute_id)
        return await self._booked(dispute_moved(payment, self._sandbox.moment(), dispute_id, status))

    async def _booked(self, change: Change) -> dict[str, Any]:
        self._sandbox.books.book(change, None)
        await self._sandbox.books.durable()
        return shown_payment(change.payment)

    async def _set_faults(self, request: Request) -> dict[str, Any]:
        body = await read_body(request, self._sandbox.settings.bounds.body_bytes_max)
        # Checked by `parsed`, then taken as it is: the plan checks its own parts.
        parsed(body, ("seed", "rates", "scope", "next"))
        try:
            self._sandbox.faults.configure(json.loads(body or b"{}"))
        except (FaultPlanInvalid, TypeError, ValueError) as error:
            raise invalid("faults", str(error)) from None
        return self._sandbox.faults.shown()

    async def _heal_faults(self, request: Request) -> dict[str, Any]:
        self._sandbox.faults.heal()
        return self._sandbox.faults.shown()

    async def _show_faults(self, request: Request) -> dict[str, Any]:
        return self._sandbox.faults.shown()

    async def _set_webhooks(self, request: Request) -> dict[str, Any]:
        params = await self._params(request, "mode", "duplicates", "reorder", "delay_ms", "seed")
        mode = DeliveryMode(
            cast(Literal["normal", "off"], params.choice("mode", ("normal", "off"), "normal")),
            params.whole("duplicates", 0, DUPLICATES_MAX),
            params.flag("reorder", False),
            params.whole("delay_ms", 0, DELAY_MS_MAX),
        )
        self._sandbox.courier.set_mode(mode, params.whole("seed", 0, SEED_MAX))
        return self._sandbox.courier.shown()

    async def _show_webhooks(self, request: Request) -> dict[str, Any]:
        return self._sandbox.courier.shown()

    async def _redeliver(self, request: Request) -> dict[str, Any]:
        wanted = (await self._params(request, "event_id")).text("event_id")
        found = [event for event in self._sandbox.books.all_events() if wanted in ("all", event.id)]
        if not found:
            raise missing("event", (wanted or "")[:64])
        for event in found:
            self._sandbox.announce(event)
        return {"redelivered": len(found)}

    async def _effects(self, request: Request) -> dict[str, Any]:
        limit = min(whole(request, "limit", EFFECTS_PAGE_MAX), EFFECTS_PAGE_MAX)
        page = await self._sandbox.journal.read_effects(whole(request, "after", 0), limit + 1)
        return {"object": "list", "data": page[:limit], "has_more": len(page) > limit}

    async def _state(self, request: Request) -> dict[str, Any]:
        await self._sandbox.books.durable()
        return {
            "books": self._sandbox.books.shown(),
            "faults": self._sandbox.faults.shown(),
            "webhooks": self._sandbox.courier.shown(),
        }

    async def _tokens(self, request: Request) -> dict[str, Any]:
        return published()

    async def _params(self, request: Request, *fields: str) -> Params:
        return parsed(await read_body(request, self._sandbox.settings.bounds.body_bytes_max), fields)
