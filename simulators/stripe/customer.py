"""The payer's page: where 3D Secure leads, with two buttons. No login: whoever has the link is the payer."""

from __future__ import annotations

import contextlib
import json
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from simulators.stripe.answers import refusal_answer, sent
from simulators.stripe.api import read_body
from simulators.stripe.idempotency import Answer
from simulators.stripe.imitation import Imitation
from simulators.stripe.intents import Declined, acted
from simulators.stripe.objects import shown
from simulators.stripe.refusals import Refusal, invalid

PAGE = """<!doctype html><meta charset="utf-8"><title>3D Secure</title>
<h1>Pay {amount} of {currency}?</h1><p>PaymentIntent {id} is {status}.</p>
<form method="post"><button name="outcome" value="approve">Approve</button>
<button name="outcome" value="refuse">Refuse</button></form>"""


class CustomerPage:
    """GET and POST /customer/{id}. A form answers with a redirect to the return_url, JSON with the PaymentIntent."""

    def __init__(self, imitation: Imitation) -> None:
        self._imitation = imitation

    def routes(self) -> list[Route]:
        """Every route under /customer."""
        return [
            Route("/customer/{id}", self.show, methods=["GET"]),
            Route("/customer/{id}", self.answer, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The page."""
        books, object_id = self._imitation.books, request.path_params["id"]
        try:
            intent = books.get(books.scope_of(object_id), "payment_intent", object_id)
        except Refusal as refusal:
            return sent(refusal_answer(refusal))
        # Every one of these is ours: nothing a caller wrote is put into the page.
        told = {name: intent[name] for name in ("amount", "currency", "id", "status")}
        return HTMLResponse(PAGE.format(**told))

    async def answer(self, request: Request) -> Response:
        """The payer's word: outcome=approve or outcome=refuse. Answers 200 also when the attempt then declines."""
        books, object_id = self._imitation.books, request.path_params["id"]
        try:
            outcome, by_form = await self._outcome(request)
            step = self._imitation.step(books.scope_of(object_id))
            intent = step.load("payment_intent", object_id)
            # The charge is the confirming request's, also when it is made now.
            step.key = intent.get("_key")
            with contextlib.suppress(Declined):
                acted(step, intent, approved=outcome == "approve")
        except Refusal as refusal:
            return sent(refusal_answer(refusal))
        books.book(step, None)
        await books.durable()
        if by_form and intent.get("_return_url") is not None:
            return RedirectResponse(intent["_return_url"], 303)
        return sent(Answer(200, json.dumps(shown(intent))))

    async def _outcome(self, request: Request) -> tuple[str, bool]:
        body = await read_body(request, self._imitation.settings.bounds.body_bytes_max)
        by_form = not request.headers.get("content-type", "").startswith("application/json")
        if by_form:
            outcome = parse_qs(body.decode("latin-1")).get("outcome", [""])[0]
        else:
            told = json.loads(body or b"{}")
            outcome = str(told.get("outcome", "")) if isinstance(told, dict) else ""
        if outcome not in ("approve", "refuse"):
            raise invalid(None, "approve or refuse.", "outcome")
        return outcome, by_form
