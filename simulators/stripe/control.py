"""The controls under /control: what a test or a demo makes the provider do. No authentication: a tool for loopback.

POST|DELETE|GET /control/faults                     set, heal, show (faults.py has the names)
POST /control/payments/{id}/dispute                 {amount?, status?, reason?}
POST /control/payments/{id}/refund                  {amount?}: made in the provider's dashboard
POST /control/payments/{id}/expire
POST /control/payments/{id}/settle-processing       {outcome: succeeded|failed}
POST /control/disputes/{id}, /control/refunds/{id}  {status}
POST|GET /control/webhooks                          {mode, duplicates, reorder, delay_ms, seed}
POST /control/webhooks/redeliver                    {event_id}, "all" for every one
GET  /control/effects?after=&limit=, /control/state, /control/tokens
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.faults import FaultPlanInvalid
from simulators.journal import EFFECTS_PAGE_MAX
from simulators.stripe import charges, intents
from simulators.stripe.answers import refusal_answer, sent
from simulators.stripe.api import read_body
from simulators.stripe.books import Step
from simulators.stripe.imitation import Imitation
from simulators.stripe.methods import published
from simulators.stripe.objects import Object, shown
from simulators.stripe.reading import whole
from simulators.stripe.refusals import Refusal, invalid, missing
from simulators.webhooks import DeliveryMode

DUPLICATES_MAX = 100
DELAY_MS_MAX = 600_000
SEED_MAX = 2**63

Endpoint = Callable[[Request], Awaitable[Response]]
Fields = dict[str, Any]
Run = Callable[[Step, Object, Fields], Object]


class Control:
    """The control routes of one imitation."""

    def __init__(self, imitation: Imitation) -> None:
        self._imitation = imitation

    def routes(self) -> list[Route]:
        """Every route under /control."""
        steps: dict[str, tuple[str, Run]] = {
            "payments/{id}/dispute": ("payment_intent", _dispute),
            "payments/{id}/refund": ("payment_intent", _refund),
            "payments/{id}/expire": ("payment_intent", _expire),
            "payments/{id}/settle-processing": ("payment_intent", _settle),
            "refunds/{id}": ("refund", lambda step, made, told: charges.refund_moved(step, made, str(told["status"]))),
            "disputes/{id}": (
                "dispute",
                lambda step, made, told: charges.dispute_moved(step, made, str(told["status"])),
            ),
        }
        return [
            *(
                Route(f"/control/{path}", self._stepping(kind, run), methods=["POST"])
                for path, (kind, run) in steps.items()
            ),
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
            except (KeyError, TypeError, ValueError) as error:
                return sent(refusal_answer(invalid(None, f"{type(error).__name__}: {error}", "body")))

        return endpoint

    def _stepping(self, kind: str, run: Run) -> Endpoint:
        async def stepping(request: Request) -> dict[str, Any]:
            imitation, told = self._imitation, await self._fields(request)
            object_id = request.path_params["id"]
            step = imitation.step(imitation.books.scope_of(object_id))
            try:
                made = run(step, step.load(kind, object_id), told)
            except intents.Declined as declined:
                made = declined.intent
            imitation.books.book(step, None)
            await imitation.books.durable()
            return shown(made)

        return self._guarded(stepping)

    async def _set_faults(self, request: Request) -> dict[str, Any]:
        try:
            self._imitation.faults.configure(await self._fields(request))
        except FaultPlanInvalid as error:
            raise invalid(None, str(error), "faults") from None
        return self._imitation.faults.shown()

    async def _heal_faults(self, request: Request) -> dict[str, Any]:
        self._imitation.faults.heal()
        return self._imitation.faults.shown()

    async def _show_faults(self, request: Request) -> dict[str, Any]:
        return self._imitation.faults.shown()

    async def _set_webhooks(self, request: Request) -> dict[str, Any]:
        told = await self._fields(request)
        mode = told.get("mode", "normal")
        if mode not in ("normal", "off"):
            raise invalid(None, "normal or off.", "mode")
        delivery = DeliveryMode(
            cast(Literal["normal", "off"], mode),
            min(int(told.get("duplicates", 0)), DUPLICATES_MAX),
            bool(told.get("reorder", False)),
            min(int(told.get("delay_ms", 0)), DELAY_MS_MAX),
        )
        self._imitation.courier.set_mode(delivery, min(int(told.get("seed", 0)), SEED_MAX))
        return self._imitation.courier.shown()

    async def _show_webhooks(self, request: Request) -> dict[str, Any]:
        return self._imitation.courier.shown()

    async def _redeliver(self, request: Request) -> dict[str, Any]:
        wanted = str((await self._fields(request)).get("event_id", ""))
        found = [(scope, told) for scope, told in self._imitation.books.all_events() if wanted in ("all", told["id"])]
        if not found:
            raise missing("event", wanted)
        for scope, told in found:
            self._imitation.announce(scope, told)
        return {"redelivered": len(found)}

    async def _effects(self, request: Request) -> dict[str, Any]:
        query = request.query_params
        limit = whole(query.get("limit"), EFFECTS_PAGE_MAX, EFFECTS_PAGE_MAX)
        after = whole(query.get("after"), 0, 10**12)
        found = await self._imitation.journal.read_effects(after, limit + 1)
        return {"object": "list", "data": found[:limit], "has_more": len(found) > limit}

    async def _state(self, request: Request) -> dict[str, Any]:
        await self._imitation.books.durable()
        return {
            "books": self._imitation.books.shown(),
            "faults": self._imitation.faults.shown(),
            "webhooks": self._imitation.courier.shown(),
        }

    async def _tokens(self, request: Request) -> dict[str, Any]:
        return published()

    async def _fields(self, request: Request) -> Fields:
        body = await read_body(request, self._imitation.settings.bounds.body_bytes_max)
        told = json.loads(body or b"{}")
        if not isinstance(told, dict):
            raise invalid(None, "A JSON object.", "body")
        return told


def _charge_of(step: Step, intent: Object) -> Object:
    if intent["latest_charge"] is None:
        raise intents.unexpected(intent, "touch the charge of")
    return step.load("charge", intent["latest_charge"])


def _amount(told: Fields) -> int | None:
    return None if told.get("amount") is None else int(told["amount"])


def _dispute(step: Step, intent: Object, told: Fields) -> Object:
    status, reason = str(told.get("status", "needs_response")), str(told.get("reason", "fraudulent"))
    if status not in ("needs_response", "warning_needs_response"):
        raise invalid(None, f"A dispute cannot begin as {status[:32]}.", "status")
    return charges.disputed(step, _charge_of(step, intent), _amount(told), status, reason)


def _refund(step: Step, intent: Object, told: Fields) -> Object:
    return charges.refunded(step, _charge_of(step, intent), _amount(told), None, {}, "dashboard")


def _expire(step: Step, intent: Object, told: Fields) -> Object:
    return intents.cancel(step, intent, "automatic", expired=True)


def _settle(step: Step, intent: Object, told: Fields) -> Object:
    return intents.settled(step, intent, succeeded=told["outcome"] == "succeeded")
