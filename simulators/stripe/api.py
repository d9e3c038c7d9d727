"""The API under /v1: authentication, idempotency, faults; then one verb each.

A POST goes one way: claim the key, draw a fault, take a step, book it with its answer, wait for the disk, answer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from simulators.faults import Fault, Hold
from simulators.hearing import UNANSWERED
from simulators.stripe import reading
from simulators.stripe.answers import altered, refusal_answer, sent
from simulators.stripe.books import Scope
from simulators.stripe.form import Params, parsed
from simulators.stripe.idempotency import Answer, StoredAnswer, fingerprint_of
from simulators.stripe.imitation import Imitation
from simulators.stripe.intents import Declined
from simulators.stripe.objects import Object, minted, shown
from simulators.stripe.refusals import Refusal, invalid, missing, no_permission, unknown_key
from simulators.stripe.settings import Heard
from simulators.stripe.verbs import VERBS, Verb

KEY_CHARS_MAX = 255
STRANGERS = (401, 403)
NO_ANSWER = Answer(UNANSWERED, "")

Endpoint = Callable[[Request], Awaitable[Response]]


class Api:
    """The routes of one imitation's API."""

    def __init__(self, imitation: Imitation) -> None:
        self._imitation = imitation

    def routes(self) -> list[Route]:
        """Every route under /v1."""
        books = self._imitation.books
        writes = [Route(path, self._writing(verb), methods=["POST"]) for path, verb in VERBS.items()]

        def read(path: str, fields: tuple[str, ...], reader: reading.Reader) -> Route:
            return Route(path, self._reading(fields, lambda s, p, i: reader(books, s, p, i)), methods=["GET"])

        searching = (("query", "limit", "page", "expand"), self._search)
        listing = (
            ("delivery_success", "type", "types", *reading.LIST_FIELDS),
            lambda s, p, i: reading.events(books, s, p),
        )
        return [
            Route("/v1/payment_intents/search", self._reading(*searching), methods=["GET"]),
            *writes,
            *(read(*each) for each in reading.readers()),
            Route("/v1/events", self._reading(*listing), methods=["GET"]),
            Route("/v1/events/{id}", self._reading(("expand",), self._event), methods=["GET"]),
            Route("/v1/account", self._reading(("expand",), lambda s, p, i: reading.account(s)), methods=["GET"]),
            Route("/v1/webhook_endpoints", self._reading(reading.LIST_FIELDS, self._endpoints), methods=["GET"]),
            Route("/v1/{path:path}", self._unheard_of, methods=["GET", "POST", "DELETE"]),
        ]

    def _writing(self, verb: Verb) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            try:
                return await self._write(request, verb)
            except Refusal as refusal:
                answer = request.state.meant = refusal_answer(refusal)
                if refusal.status in STRANGERS and self._imitation.settings.heard is not None:
                    # A stranger's body is read for the sake of telling alone.
                    with contextlib.suppress(Refusal):
                        request.state.body = await read_body(request, self._imitation.settings.bounds.body_bytes_max)
                return sent(answer)
            finally:
                if hasattr(request.state, "body"):
                    self._tell(request, request.state.body)

        return endpoint

    async def _write(self, request: Request, verb: Verb) -> Response:
        imitation = self._imitation
        scope = self._scope(request)
        key = request.headers.get("idempotency-key") or minted("key")
        if len(key) > KEY_CHARS_MAX:
            raise invalid(None, f"Idempotency keys have at most {KEY_CHARS_MAX} characters.", "Idempotency-Key")
        body = request.state.body = await read_body(request, imitation.settings.bounds.body_bytes_max)
        params = parsed(_text(body), verb.fields)
        fingerprint = fingerprint_of(request.method, request.url.path, body)
        stored = imitation.keys.claim(scope.id, key, fingerprint, imitation.settings.clock())
        hold = imitation.faults.holding()
        fault = imitation.faults.draw("POST", request.url.path, verb.name)
        if stored is not None:
            return await self._replay(stored, fault, hold)
        try:
            if fault is not None and fault.name == "stall":
                # Held with its key in progress, as a request is that a slow queue delivers after its caller gave up.
                await hold(imitation.settings.hang_seconds)
            elif fault is not None and fault.stage == "before":
                return imitation.wire.spoiled(fault, sent(altered(fault, Answer(200, "{}"))), hold)
            answer = self._book(verb, scope, key, request.path_params.get("id", ""), params, fingerprint, fault)
        finally:
            # Whatever was not stored was not booked either: the same key may try again.
            imitation.keys.release(scope.id, key)
        await imitation.books.durable()
        if fault is None:
            request.state.meant = answer
        return imitation.wire.spoiled(fault, sent(answer), hold)

    def _book(
        self, verb: Verb, scope: Scope, key: str, object_id: str, params: Params, fingerprint: str, fault: Fault | None
    ) -> Answer:
        """Take the step and store its answer, in one step of the event loop."""
        imitation = self._imitation
        step = imitation.step(scope, key)
        refusal: Refusal | None = None
        told: Object = {}
        try:
            told = verb.run(step, object_id, params)
        except Declined as declined:
            refusal = declined.refusal
            refusal.more |= {"payment_intent": shown(declined.intent)}
        except Refusal as said:
            if not said.kept:
                raise
            refusal, step = said, imitation.step(scope, key)
        answer = Answer(500, "")

        def answered() -> StoredAnswer:
            nonlocal answer
            if refusal is None:
                shown_now = reading.expanded(imitation.books, scope, told, params.listed("expand"))
                answer = altered(fault, Answer(200, json.dumps(shown_now)))
            else:
                answer = altered(fault, refusal_answer(refusal))
            return StoredAnswer(scope.id, key, fingerprint, answer, imitation.settings.clock())

        imitation.books.book(step, answered)
        return answer

    async def _replay(self, stored: Answer, drawn: Fault | None, hold: Hold) -> Response:
        if drawn is not None and drawn.name == "stall":
            await hold(self._imitation.settings.hang_seconds)
        await self._imitation.books.durable()
        # A fault may hit the replay on its way; what is stored stays as it is.
        return self._imitation.wire.spoiled(drawn, sent(altered(drawn, stored), replayed=True), hold)

    def _reading(self, fields: tuple[str, ...], reader: Callable[[Scope, Params, str], Object]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            imitation = self._imitation
            fault: Fault | None = None
            hold = imitation.faults.holding()
            try:
                scope = self._scope(request)
                fault = imitation.faults.draw("GET", request.url.path, "lookup")
                if fault is not None and fault.name == "stall":
                    await hold(imitation.settings.hang_seconds)
                params = parsed(request.url.query, fields)
                answer = Answer(200, json.dumps(reader(scope, params, request.path_params.get("id", ""))))
            except Refusal as refusal:
                answer = refusal_answer(refusal)
            if fault is None:
                request.state.meant = answer
            self._tell(request, b"")
            await imitation.books.durable()
            return imitation.wire.spoiled(fault, sent(altered(fault, answer)), hold)

        return endpoint

    async def _unheard_of(self, request: Request) -> Response:
        # Read in order to tell of it.
        body = await read_body(request, self._imitation.settings.bounds.body_bytes_max)
        words = f"Unrecognized request URL ({request.method}: {request.url.path[:200]})."
        answer = request.state.meant = refusal_answer(Refusal(404, "invalid_request_error", None, words))
        self._tell(request, body)
        return sent(answer)

    def _tell(self, request: Request, body: bytes) -> None:
        heard = self._imitation.settings.heard
        if heard is not None:
            url, answer = request.url, getattr(request.state, "meant", NO_ANSWER)
            heard(Heard(request.method, url.path, url.query, request.headers, body, answer.status, answer.body))

    def _search(self, scope: Scope, params: Params, _: str) -> Object:
        settings = self._imitation.settings
        seen_before = settings.clock() - settings.terms.search_seconds
        return reading.searched(self._imitation.books, scope, params, seen_before=seen_before)

    def _event(self, scope: Scope, params: Params, object_id: str) -> Object:
        found = self._imitation.books.events(scope).get(object_id)
        if found is None:
            raise missing("event", object_id)
        return found

    def _endpoints(self, scope: Scope, params: Params, _: str) -> Object:
        url = self._imitation.settings.webhook_url
        found = [] if url is None else [reading.webhook_endpoint(url.replace("{account}", scope.account))]
        return {"object": "list", "data": found, "has_more": False, "url": "/v1/webhook_endpoints"}

    def _scope(self, request: Request) -> Scope:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        account = self._imitation.accounts.get(key.strip())
        if scheme.lower() != "bearer" or account is None:
            raise unknown_key()
        connected = request.headers.get("stripe-account")
        if connected in (None, account.id):
            return Scope(account.id)
        if connected not in account.connected:
            raise no_permission(str(connected))
        return Scope(account.id, connected)


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The request's body. Raises Refusal 413 as soon as it is too large."""
    held = bytearray()
    try:
        async for chunk in request.stream():
            held += chunk
            if len(held) > bytes_max:
                raise Refusal(413, "invalid_request_error", None, f"At most {bytes_max} bytes.")
    except ClientDisconnect:
        raise invalid(None, "The body did not arrive.", "body") from None
    return bytes(held)


def _text(body: bytes) -> str:
    try:
        return body.decode("ascii")
    except UnicodeDecodeError:
        raise invalid(None, "Invalid request: the body is not form-encoded.", "body") from None
