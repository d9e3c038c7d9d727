"""The customer's page: where a redirect leads, with two buttons. No login: whoever has the link is the customer."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from simulators.sandbox.answers import answer_of, refusal_answer, sent
from simulators.sandbox.api import read_body
from simulators.sandbox.attempts import acted
from simulators.sandbox.idempotency import Answer
from simulators.sandbox.params import parsed
from simulators.sandbox.refusals import Refusal, invalid
from simulators.sandbox.sandbox import Sandbox

PAGE = """<!doctype html><meta charset="utf-8"><title>Sandbox bank</title>
<h1>Pay {amount} minor units of {currency}?</h1><p>Payment {id} is {status}.</p>
<form method="post"><button name="outcome" value="approve">Approve</button>
<button name="outcome" value="refuse">Refuse</button></form>"""


class CustomerPage:
    """GET and POST /customer/{id}. A form answers with a redirect to the return_url, JSON with the payment."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[Route]:
        """Every route under /customer."""
        return [
            Route("/customer/{id}", self.show, methods=["GET"]),
            Route("/customer/{id}", self.answer, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The page."""
        try:
            payment = self._sandbox.books.any_payment(request.path_params["id"])
        except Refusal as refusal:
            return sent(refusal_answer(refusal))
        # Every one of these is ours: nothing a caller wrote is put into the page.
        return HTMLResponse(
            PAGE.format(amount=payment.amount, currency=payment.currency, id=payment.id, status=payment.status)
        )

    async def answer(self, request: Request) -> Response:
        """The customer's word: outcome=approve or outcome=refuse. Answers 200 also when the attempt then declines."""
        books = self._sandbox.books
        try:
            outcome, by_form = await self._outcome(request)
            change = acted(books.any_payment(request.path_params["id"]), self._sandbox.moment(), outcome == "approve")
        except Refusal as refusal:
            return sent(refusal_answer(refusal))
        books.book(change, None)
        await books.durable()
        if by_form and change.payment.return_url is not None:
            return RedirectResponse(change.payment.return_url, 303)
        answer = answer_of(change)
        return sent(Answer(200, answer.body))

    async def _outcome(self, request: Request) -> tuple[str, bool]:
        body = await read_body(request, self._sandbox.settings.bounds.body_bytes_max)
        if request.headers.get("content-type", "").startswith("application/json"):
            return parsed(body, ("outcome",)).choice("outcome", ("approve", "refuse")), False
        outcome = parse_qs(body.decode("latin-1")).get("outcome", [""])[0]
        if outcome not in ("approve", "refuse"):
            raise invalid("outcome", "approve or refuse.")
        return outcome, True
