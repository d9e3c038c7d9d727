"""The payer's page: where an order's link leads. No login: whoever has the link is the payer."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from simulators.paypal.answers import Answer, refusal_answer, sent
from simulators.paypal.api import read_body
from simulators.paypal.imitation import Imitation
from simulators.paypal.methods import FUNDINGS
from simulators.paypal.order import Order, shown_order
from simulators.paypal.refusals import Refusal, invalid
from simulators.paypal.steps import approved

PAGE = """<!doctype html><meta charset="utf-8"><title>Imitated PayPal</title>
<h1>Pay {value} {currency}?</h1><p>Order {id} is {status}.</p>
<form method="post"><select name="funding">{fundings}</select>
<button name="outcome" value="approve">Approve</button> <button name="outcome" value="cancel">Cancel</button></form>"""


class CustomerPage:
    """GET and POST /checkoutnow/<order>: a form answers with a redirect to the merchant, JSON with the order."""

    def __init__(self, imitation: Imitation) -> None:
        self._imitation = imitation

    def routes(self) -> list[Route]:
        """Both routes."""
        return [
            Route("/checkoutnow/{id}", self.show, methods=["GET"]),
            Route("/checkoutnow/{id}", self.answer, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The page."""
        try:
            order = self._order(request)
        except Refusal as refusal:
            return sent(refusal_answer(refusal))
        amount = order.unit["amount"]
        options = "".join(f'<option value="{name}">{method.explains}</option>' for name, method in FUNDINGS.items())
        # Every one of these is ours, or was checked: nothing a caller wrote is put into the page.
        return HTMLResponse(
            PAGE.format(
                value=amount["value"],
                currency=amount["currency_code"],
                id=order.id,
                status=order.status,
                fundings=options,
            )
        )

    async def answer(self, request: Request) -> Response:
        """The payer's word: outcome=approve with a funding, or outcome=cancel, which changes nothing at PayPal."""
        books = self._imitation.books
        try:
            told, by_form = await self._told(request)
            order = self._order(request)
            if told["outcome"] == "approve":
                change = approved(order, self._imitation.moment(), told.get("funding") or "ok")
                books.book(change, None)
                order = change.order
        except Refusal as refusal:
            return sent(refusal_answer(refusal))
        await books.durable()
        if by_form and order.payer_url:
            glue = "&" if "?" in order.payer_url else "?"
            return RedirectResponse(f"{order.payer_url}{glue}token={order.id}", 303)
        shown = shown_order(order, self._imitation.settings.merchant.merchant_id, self._imitation.url)
        return sent(Answer(200, json.dumps(shown)))

    def _order(self, request: Request) -> Order:
        return self._imitation.books.order(request.path_params["id"])

    async def _told(self, request: Request) -> tuple[dict[str, str], bool]:
        body = await read_body(request, self._imitation.settings.bounds.body_bytes_max)
        by_form = not request.headers.get("content-type", "").startswith("application/json")
        try:
            fields = parse_qs(body.decode("latin-1"))
            told = {name: values[0] for name, values in fields.items()} if by_form else dict(json.loads(body))
        except (ValueError, TypeError):
            raise invalid("MALFORMED_REQUEST_JSON") from None
        # The sandbox's page and Stripe's say "refuse".
        if told.get("outcome") == "refuse":
            told["outcome"] = "cancel"
        if told.get("outcome") not in ("approve", "cancel") or told.get("funding", "ok") not in FUNDINGS:
            raise invalid("INVALID_PARAMETER_VALUE")
        return told, by_form
