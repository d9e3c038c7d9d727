"""The controls under /control: what a test or a demo makes PayPal do. No authentication: a tool for loopback.

    POST|DELETE|GET /control/faults                     set, heal, show (faults.py has the names; verbs: create,
                                                        complete, capture, cancel, refund, lookup, token)
    POST /control/captures/{id}/settle                  {status: COMPLETED|DECLINED}: a pending one
    POST /control/captures/{id}/refund                  {amount?}: made in the merchant's dashboard
    POST /control/authorizations/{id}/capture           {amount?, final_capture?}: made in the dashboard
    POST /control/captures/{id}/dispute                 {amount?, stage?, reason?}
    POST /control/disputes/{id}                         {stage?, outcome?}
    POST /control/refunds/{id}                          {status: COMPLETED|FAILED}: a pending one
    POST /control/authorizations/{id}/settle            {status: CREATED|DENIED}: a pending one
    POST /control/pending                               {fails?}: whatever pends comes through, or does not
    POST /control/orders/{id}/dispute | refund          the same, of an order's first capture; also under payments/
    POST /control/tokens/revoke                         every access token ends
    POST|GET /control/webhooks                          {mode, duplicates, reorder, delay_ms, seed}
    POST /control/webhooks/redeliver                    {event_id}, "all" for every one
    GET  /control/effects?after=&limit=, /control/state, /control/tokens

The steps of an order answer with the order.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.faults import FaultPlanInvalid
from simulators.journal import EFFECTS_PAGE_MAX
from simulators.paypal import steps
from simulators.paypal.answers import refusal_answer, sent
from simulators.paypal.api import read_body
from simulators.paypal.imitation import Imitation
from simulators.paypal.methods import published
from simulators.paypal.order import Json, Order, shown_order
from simulators.paypal.refusals import Refusal, invalid, missing
from simulators.paypal.steps import Change, Moment
from simulators.webhooks import DeliveryMode

DUPLICATES_MAX = 100
DELAY_MS_MAX = 600_000

Step = Callable[[Order, Moment, Json, Json], Change]


class Control:
    """The control routes of one imitation."""

    def __init__(self, imitation: Imitation) -> None:
        self._imitation = imitation

    def routes(self) -> list[Route]:
        """Every route under /control."""
        post, get = ["POST"], ["GET"]
        parts: dict[str, tuple[str, Step]] = {
            "captures/{id}/settle": ("captures", _settle),
            "captures/{id}/refund": ("captures", _refund),
            "captures/{id}/dispute": ("captures", _dispute),
            "authorizations/{id}/capture": ("authorizations", _capture),
            "authorizations/{id}/settle": ("authorizations", _move_authorization),
            "refunds/{id}": ("refunds", _move_refund),
            "disputes/{id}": ("disputes", _move_dispute),
        }
        return [
            *(
                Route(f"/control/{path}", self._guarded(self._of_part(kind, step)), methods=post)
                for path, (kind, step) in parts.items()
            ),
            Route("/control/orders/{id}/dispute", self._guarded(self._of_order(_dispute)), methods=post),
            Route("/control/payments/{id}/dispute", self._guarded(self._of_order(_dispute)), methods=post),
            Route("/control/orders/{id}/refund", self._guarded(self._of_order(_refund)), methods=post),
            Route("/control/payments/{id}/refund", self._guarded(self._of_order(_refund)), methods=post),
            Route("/control/pending", self._guarded(self._end_pending), methods=post),
            Route("/control/tokens/revoke", self._guarded(self._revoke), methods=post),
            Route("/control/faults", self._guarded(self._set_faults), methods=post),
            Route("/control/faults", self._guarded(self._heal_faults), methods=["DELETE"]),
            Route("/control/faults", self._guarded(self._show_faults), methods=get),
            Route("/control/webhooks", self._guarded(self._set_webhooks), methods=post),
            Route("/control/webhooks", self._guarded(self._show_webhooks), methods=get),
            Route("/control/webhooks/redeliver", self._guarded(self._redeliver), methods=post),
            Route("/control/effects", self._guarded(self._effects), methods=get),
            Route("/control/state", self._guarded(self._state), methods=get),
            Route("/control/tokens", self._guarded(self._tokens), methods=get),
        ]

    def _guarded(self, run: Callable[[Request], Awaitable[Json]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                return JSONResponse(await run(request))
            except Refusal as refusal:
                return sent(refusal_answer(refusal))

        return endpoint

    def _of_part(self, kind: str, step: Step) -> Callable[[Request], Awaitable[Json]]:
        async def run(request: Request) -> Json:
            asked = await self._asked(request)
            order, found = self._imitation.books.owner(kind, request.path_params["id"])
            return await self._booked(step(order, self._imitation.moment(), found, asked))

        return run

    def _of_order(self, step: Step) -> Callable[[Request], Awaitable[Json]]:
        async def run(request: Request) -> Json:
            asked = await self._asked(request)
            order = self._imitation.books.order(request.path_params["id"])
            if not order.captures:
                raise missing()
            return await self._booked(step(order, self._imitation.moment(), order.captures[0], asked))

        return run

    async def _booked(self, change: Change) -> Json:
        self._imitation.books.book(change, None)
        await self._imitation.books.durable()
        return shown_order(change.order, self._imitation.settings.merchant.merchant_id, self._imitation.url)

    async def _end_pending(self, request: Request) -> Json:
        fails = bool((await self._asked(request)).get("fails", False))
        books, ended = self._imitation.books, 0
        waiting = [
            (kind, each["id"])
            for order in books.orders.after(None)
            for kind in PENDING
            for each in getattr(order, kind)
            if each["status"] == "PENDING"
        ]
        for kind, part_id in waiting:
            order, found = books.owner(kind, part_id)
            step, no = PENDING[kind]
            books.book(step(order, self._imitation.moment(), found, {"status": no} if fails else {}), None)
            ended += 1
        await books.durable()
        return {"ended": ended}

    async def _revoke(self, request: Request) -> Json:
        return {"revoked": self._imitation.tokens.revoke_all()}

    async def _set_faults(self, request: Request) -> Json:
        try:
            self._imitation.faults.configure(await self._asked(request))
        except (FaultPlanInvalid, TypeError, ValueError) as error:
            raise invalid(str(error)) from None
        return self._imitation.faults.shown()

    async def _heal_faults(self, request: Request) -> Json:
        self._imitation.faults.heal()
        return self._imitation.faults.shown()

    async def _show_faults(self, request: Request) -> Json:
        return self._imitation.faults.shown()

    async def _set_webhooks(self, request: Request) -> Json:
        asked = await self._asked(request)
        mode = asked.get("mode", "normal")
        duplicates, delay_ms = int(asked.get("duplicates", 0)), int(asked.get("delay_ms", 0))
        if mode not in ("normal", "off") or not 0 <= duplicates <= DUPLICATES_MAX or not 0 <= delay_ms <= DELAY_MS_MAX:
            raise invalid("INVALID_PARAMETER_VALUE")
        told = DeliveryMode(mode, duplicates, bool(asked.get("reorder", False)), delay_ms)
        self._imitation.courier.set_mode(told, int(asked.get("seed", 0)))
        return self._imitation.courier.shown()

    async def _show_webhooks(self, request: Request) -> Json:
        return self._imitation.courier.shown()

    async def _redeliver(self, request: Request) -> Json:
        wanted = str((await self._asked(request)).get("event_id", ""))
        found = [each for each in self._imitation.books.events.after(None) if wanted in ("all", each.id)]
        if not found:
            raise missing()
        for event in found:
            self._imitation.announce(event)
        return {"redelivered": len(found)}

    async def _effects(self, request: Request) -> Json:
        query = request.query_params
        limit = min(int(query.get("limit", EFFECTS_PAGE_MAX)), EFFECTS_PAGE_MAX)
        page = await self._imitation.journal.read_effects(int(query.get("after", 0)), limit + 1)
        return {"object": "list", "data": page[:limit], "has_more": len(page) > limit}

    async def _state(self, request: Request) -> Json:
        await self._imitation.books.durable()
        return {
            "books": self._imitation.books.shown(),
            "faults": self._imitation.faults.shown(),
            "webhooks": self._imitation.courier.shown(),
            "tokens_issued": self._imitation.tokens.issued,
        }

    async def _tokens(self, request: Request) -> Json:
        return published()

    async def _asked(self, request: Request) -> Json:
        body = await read_body(request, self._imitation.settings.bounds.body_bytes_max)
        try:
            asked = json.loads(body or b"{}")
        except ValueError:
            raise invalid("MALFORMED_REQUEST_JSON") from None
        if not isinstance(asked, dict):
            raise invalid("MALFORMED_REQUEST_JSON")
        return asked


def _money(order: Order, asked: Json) -> Json:
    """Amounts may be PayPal's money objects, or minor units of ISO 4217, as the other imitations take them."""
    amount = asked.get("amount")
    if not isinstance(amount, int):
        return asked
    value = str(amount) if order.currency == "JPY" else f"{amount // 100}.{amount % 100:02d}"
    return {**asked, "amount": {"currency_code": order.currency, "value": value}}


def _settle(order: Order, moment: Moment, capture: Json, asked: Json) -> Change:
    return steps.capture_moved(order, moment, capture, "DECLINED" if asked.get("status") == "DECLINED" else "COMPLETED")


def _refund(order: Order, moment: Moment, capture: Json, asked: Json) -> Change:
    told = {name: value for name, value in _money(order, asked).items() if name == "amount"}
    return steps.refunded(order, moment, capture, told, None, False)


def _dispute(order: Order, moment: Moment, capture: Json, asked: Json) -> Change:
    return steps.disputed(order, moment, capture, _money(order, asked))


def _capture(order: Order, moment: Moment, hold: Json, asked: Json) -> Change:
    return steps.captured(order, moment, hold, _money(order, asked), None, "dashboard")


def _move_refund(order: Order, moment: Moment, refund: Json, asked: Json) -> Change:
    return steps.refund_moved(order, moment, refund, "FAILED" if asked.get("status") == "FAILED" else "COMPLETED")


def _move_authorization(order: Order, moment: Moment, hold: Json, asked: Json) -> Change:
    return steps.authorization_moved(order, moment, hold, "DENIED" if asked.get("status") == "DENIED" else "CREATED")


def _move_dispute(order: Order, moment: Moment, dispute: Json, asked: Json) -> Change:
    return steps.dispute_moved(order, moment, dispute, asked)


PENDING: Mapping[str, tuple[Step, str]] = {
    "authorizations": (_move_authorization, "DENIED"),
    "captures": (_settle, "DECLINED"),
    "refunds": (_move_refund, "FAILED"),
}
"""What may pend: the step that ends it, and the status of one that does not come through."""
