"""The API: authentication, request ids, faults; then one step each.

    POST /v1/oauth2/token
    POST /v2/checkout/orders, /v2/checkout/orders/{id}/capture | authorize
    POST /v2/payments/authorizations/{id}/capture | void, /v2/payments/captures/{id}/refund
    GET  /v2/checkout/orders/{id}, /v2/payments/authorizations | captures | refunds/{id}, /v1/customer/disputes/{id}
    GET  /v1/notifications/webhooks, /v1/notifications/webhooks-events[/{id}], /v1/notifications/certs/{name}
    GET  /v1/reporting/transactions

A POST goes one way: claim the request id, draw a fault, compute the change, book it with what it came to, wait for the
disk, answer. `PayPal-Mock-Response: {"mock_application_codes": "<issue>"}` refuses with that issue, as PayPal's own
negative testing does.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from simulators.faults import Fault, Hold
from simulators.hearing import UNANSWERED
from simulators.paypal.answers import Answer, altered, answered, refusal_answer, sent
from simulators.paypal.imitation import CERTIFICATE_PATH, Imitation
from simulators.paypal.reading import READERS
from simulators.paypal.refusals import Refusal, invalid, missing, refused
from simulators.paypal.request_ids import StoredAnswer
from simulators.paypal.settings import Exchanged
from simulators.paypal.verbs import VERBS, Asked, Verb

REQUEST_ID_CHARS_MAX = 108
METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")
NO_ANSWER = Answer(UNANSWERED, "")

Run = Callable[[Request, bytes], Awaitable[tuple[Response, Answer | None]]]
"""To what goes out, and what the books gave for it (None where nothing was asked of them)."""


class Api:
    """The routes of one imitation's API."""

    def __init__(self, imitation: Imitation) -> None:
        self._imitation = imitation

    def routes(self) -> list[Route]:
        """Every route of PayPal's."""
        writes = [Route(verb.path, self._endpoint(self._writing(verb)), methods=["POST"]) for verb in VERBS]
        reads = [
            Route(path, self._endpoint(self._reading(reader)), methods=["GET"]) for path, reader in READERS.items()
        ]
        unheard_of = self._endpoint(self._unheard_of)
        return [
            Route("/v1/oauth2/token", self._token, methods=["POST"]),
            Route(CERTIFICATE_PATH, self._certificate, methods=["GET"]),
            *writes,
            *reads,
            *(Route(f"/{version}/{{path:path}}", unheard_of, methods=METHODS) for version in ("v1", "v2")),
        ]

    def _endpoint(self, run: Run) -> Any:
        async def endpoint(request: Request) -> Response:
            body, answer = None, None
            try:
                body = await read_body(request, self._imitation.settings.bounds.body_bytes_max)
                if not self._imitation.tokens.good(request.headers.get("authorization", "")):
                    raise Refusal(401)
                response, answer = await run(request, body)
            except Refusal as refusal:
                answer = refusal_answer(refusal)
                response = sent(answer)
            finally:
                # Of what was too much there is nothing whole to tell.
                if body is not None:
                    self._observe(request, body, answer or NO_ANSWER)
            return response

        return endpoint

    def _observe(self, request: Request, body: bytes, answer: Answer) -> None:
        observed = self._imitation.settings.observed
        if observed is None:
            return
        url = request.url
        headers = dict(request.headers)
        observed(Exchanged(request.method, url.path, url.query, headers, body, answer.status, answer.body.encode()))

    def _writing(self, verb: Verb) -> Run:
        async def run(request: Request, body: bytes) -> tuple[Response, Answer | None]:
            imitation, path = self._imitation, request.url.path
            request_id = request.headers.get("paypal-request-id", "")
            if len(request_id) > REQUEST_ID_CHARS_MAX:
                raise invalid("INVALID_STRING_LENGTH")
            # A void keeps no request id: voiding twice is refused by the books.
            keyed = bool(request_id) and verb.name != "cancel"
            stored = imitation.request_ids.claim(path, request_id, imitation.settings.clock()) if keyed else None
            hold = imitation.faults.holding()
            fault = imitation.faults.draw("POST", path, verb.name)
            if stored is not None:
                return await self._replay(stored, fault, hold)
            try:
                asked = Asked(
                    id=request.path_params.get("id", ""),
                    key=request_id or None,
                    body=_parsed(body),
                    mocked=_mocked(request),
                    operation=request.headers.get("obol-operation-id", ""),
                )
                if fault is not None and fault.name == "stall":
                    # Held with its id in progress, as a request is that a slow queue delivers after its caller gave up.
                    await hold(imitation.settings.hang_seconds)
                elif fault is not None and fault.stage == "before":
                    answer = altered(fault, Answer(200, "{}"))
                    told = answer if answer.status != 200 else None
                    return imitation.wire.spoiled(fault, sent(answer), hold), told
                answer = self._book(verb, asked, path)
            finally:
                if keyed:
                    imitation.request_ids.release(path, request_id)
            await imitation.books.durable()
            return imitation.wire.spoiled(fault, sent(altered(fault, answer)), hold), answer

        return run

    def _book(self, verb: Verb, asked: Asked, path: str) -> Answer:
        """Change the books and store what it came to, in one step of the event loop."""
        imitation = self._imitation
        kept: dict[str, Any] = {}
        change = None
        refusal: Refusal | None = None
        try:
            if asked.mocked:
                raise refused(asked.mocked)
            change = verb.run(imitation.books, imitation.moment(), asked)
            refusal = change.refusal
        except Refusal as error:
            if not error.kept:
                raise
            refusal = error
        if refusal is not None:
            kept = {"status": refusal.status, "issue": refusal.issue, "words": refusal.words}
        elif change is not None:
            kind, part_id = change.made or ("", "")
            kept = {"order_id": change.order.id, "kind": kind, "part_id": part_id}
        stored = StoredAnswer(path, asked.key or "", imitation.settings.clock(), **kept)
        imitation.books.book(change, stored if asked.key and verb.name != "cancel" else None)
        return answered(imitation, stored, verb.status)

    async def _replay(self, stored: StoredAnswer, drawn: Fault | None, hold: Hold) -> tuple[Response, Answer]:
        if drawn is not None and drawn.name == "stall":
            await hold(self._imitation.settings.hang_seconds)
        await self._imitation.books.durable()
        orders = stored.path.startswith("/v2/checkout/")
        answer = answered(self._imitation, stored, 200 if orders else 201)
        # A fault may hit the replay on its way; what is stored stays as it is.
        return self._imitation.wire.spoiled(drawn, sent(altered(drawn, answer)), hold), answer

    def _reading(self, reader: Callable[[Imitation, Request], Any]) -> Run:
        async def run(request: Request, body: bytes) -> tuple[Response, Answer | None]:
            imitation = self._imitation
            hold = imitation.faults.holding()
            fault = imitation.faults.draw("GET", request.url.path, "lookup")
            if fault is not None and fault.name == "stall":
                await hold(imitation.settings.hang_seconds)
            try:
                answer = Answer(200, json.dumps(reader(imitation, request)))
            except Refusal as refusal:
                answer = refusal_answer(refusal)
            await imitation.books.durable()
            return imitation.wire.spoiled(fault, sent(altered(fault, answer)), hold), answer

        return run

    async def _unheard_of(self, request: Request, body: bytes) -> tuple[Response, Answer | None]:
        answer = refusal_answer(missing())
        return sent(answer), answer

    async def _token(self, request: Request) -> Response:
        await read_body(request, self._imitation.settings.bounds.body_bytes_max)
        hold = self._imitation.faults.holding()
        fault = self._imitation.faults.draw("TOKEN", request.url.path, "token")
        tokens = self._imitation.tokens
        token = tokens.issue(request.headers.get("authorization", ""))
        if token is None:
            told = {"error": "invalid_client", "error_description": "Client Authentication failed"}
            return sent(Answer(401, json.dumps(told)))
        told = {"scope": "", "access_token": token, "token_type": "Bearer", "app_id": "APP-IMITATED"}
        answer = Answer(200, json.dumps({**told, "expires_in": tokens.seconds}))
        return self._imitation.wire.spoiled(fault, sent(altered(fault, answer)), hold)

    async def _certificate(self, request: Request) -> Response:
        return Response(self._imitation.chain.document, media_type="application/x-pem-file")


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The request's body. Raises Refusal 413 as soon as it is larger than `bytes_max`."""
    held = bytearray()
    try:
        async for chunk in request.stream():
            held += chunk
            if len(held) > bytes_max:
                raise Refusal(413)
    except ClientDisconnect:
        raise invalid("MALFORMED_REQUEST_JSON") from None
    return bytes(held)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise invalid("MALFORMED_REQUEST_JSON") from None
    if not isinstance(value, dict):
        raise invalid("MALFORMED_REQUEST_JSON")
    return value


def _mocked(request: Request) -> str:
    """The issue that PayPal's negative testing header asks for."""
    told = request.headers.get("paypal-mock-response", "")
    if not told:
        return ""
    try:
        return str(json.loads(told)["mock_application_codes"])
    except (ValueError, KeyError, TypeError):
        raise invalid("INVALID_PARAMETER_SYNTAX") from None
