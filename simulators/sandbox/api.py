"""The API under /v1: authentication, idempotency, faults; then one verb each.

    POST /v1/payments                       create, and confirm with it
    POST /v1/payments/{id}/confirm | capture | cancel | refunds
    GET  /v1/payments/{id}, /v1/payments?reference= | ?created_gte=&created_lt=&limit=&after=
    GET  /v1/refunds/{id}, /v1/events/{id}, /v1/events?after=&limit=, /v1/account

A POST goes one way: claim the key, draw a fault, compute the change, book it with its answer, wait for the
disk, answer.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from simulators.faults import FAULTS, Fault, Hold
from simulators.sandbox.answers import altered, answer_of, refusal_answer, sent
from simulators.sandbox.idempotency import Answer, StoredAnswer, fingerprint_of
from simulators.sandbox.outcomes import OUTCOMES, outcome_for
from simulators.sandbox.params import parsed
from simulators.sandbox.queries import READERS
from simulators.sandbox.refusals import Refusal, invalid
from simulators.sandbox.sandbox import Sandbox
from simulators.sandbox.settings import Account
from simulators.sandbox.verbs import VERBS, Asked, Verb

KEY_CHARS_MAX = 255


class Api:
    """The routes of one sandbox's API."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[Route]:
        """Every route under /v1."""
        writes = [Route(path, self._writing(verb), methods=["POST"]) for path, verb in VERBS.items()]
        reads = [Route(path, self._reading(reader), methods=["GET"]) for path, reader in READERS.items()]
        return writes + reads

    def _writing(self, verb: Verb) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                return await self._write(request, verb)
            except Refusal as refusal:
                return sent(refusal_answer(refusal))

        return endpoint

    async def _write(self, request: Request, verb: Verb) -> Response:
        sandbox = self._sandbox
        account = self._account(request)
        key = _idempotency_key(request)
        body = await read_body(request, sandbox.settings.bounds.body_bytes_max)
        fingerprint = fingerprint_of(request.method, str(request.url.path), body)
        stored = sandbox.keys.claim(account.id, key, fingerprint, sandbox.settings.clock())
        hold = sandbox.faults.holding()
        if stored is not None:
            return await self._replay(stored, sandbox.faults.draw("POST", request.url.path, verb.name), hold)
        try:
            asked = Asked(account.id, key, request.path_params.get("id", ""), parsed(body, verb.fields))
            fault = self._token_fault(verb, asked) or sandbox.faults.draw("POST", request.url.path, verb.name)
            if fault is not None and fault.name == "stall":
                # Held with its key in progress, as a request is that a slow queue delivers after its caller gave up.
                await hold(sandbox.settings.hang_seconds)
            elif fault is not None and fault.stage == "before":
                return sandbox.wire.spoiled(fault, sent(altered(fault, Answer(200, "{}"))), hold)
            answer = self._book(verb, asked, fingerprint, fault)
        finally:
            # Whatever was not stored was not booked either: the same key may try again.
            sandbox.keys.release(account.id, key)
        await sandbox.books.durable()
        return sandbox.wire.spoiled(fault, sent(answer), hold)

    def _book(self, verb: Verb, asked: Asked, fingerprint: str, fault: Fault | None) -> Answer:
        """Change the books and store the answer, in one step of the event loop."""
        sandbox = self._sandbox
        try:
            change = verb.run(sandbox.books, sandbox.moment(), asked)
            answer = answer_of(change)
        except Refusal as refusal:
            if not refusal.kept:
                raise
            change, answer = None, refusal_answer(refusal)
        answer = altered(fault, answer)
        now = sandbox.settings.clock()
        sandbox.books.book(change, StoredAnswer(asked.account, asked.key, fingerprint, answer, now))
        return answer

    async def _replay(self, stored: Answer, drawn: Fault | None, hold: Hold) -> Response:
        if drawn is not None and drawn.name == "stall":
            await hold(self._sandbox.settings.hang_seconds)
        await self._sandbox.books.durable()
        # A fault may hit the replay on its way; what is stored stays as it is.
        return self._sandbox.wire.spoiled(drawn, sent(altered(drawn, stored), replayed=True), hold)

    def _token_fault(self, verb: Verb, asked: Asked) -> Fault | None:
        """The fault that the payment method asks for, as often as it asks for it."""
        sandbox = self._sandbox
        tried = verb.tries(sandbox.books, asked)
        if tried is None:
            return None
        token, amount = tried
        if token is not None and token not in OUTCOMES:
            return None
        outcome = outcome_for(token, amount)
        if outcome.fault is None:
            return None
        if FAULTS[outcome.fault].stage == "before":
            if sandbox.keys.tripped(asked.account, asked.key) >= outcome.fault_times:
                return None
            sandbox.books.trip(asked.account, asked.key)
        return sandbox.faults.count(outcome.fault)

    def _reading(
        self, reader: Callable[[Any, str, Request], dict[str, Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            sandbox = self._sandbox
            fault: Fault | None = None
            hold = sandbox.faults.holding()
            try:
                account = self._account(request)
                fault = sandbox.faults.draw("GET", request.url.path, "lookup")
                if fault is not None and fault.name == "stall":
                    await hold(sandbox.settings.hang_seconds)
                answer = Answer(200, json.dumps(reader(sandbox.books, account.id, request)))
            except Refusal as refusal:
                answer = refusal_answer(refusal)
            await sandbox.books.durable()
            return sandbox.wire.spoiled(fault, sent(altered(fault, answer)), hold)

        return endpoint

    def _account(self, request: Request) -> Account:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        account = self._sandbox.accounts.get(key.strip())
        if scheme.lower() != "bearer" or account is None:
            raise Refusal(401, "authentication_error", "invalid_key", "This API key is not known here.")
        return account


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The request's body. Raises Refusal 413 `body_too_large` as soon as it is."""
    held = bytearray()
    try:
        async for chunk in request.stream():
            held += chunk
            if len(held) > bytes_max:
                raise Refusal(413, "invalid_request_error", "body_too_large", f"At most {bytes_max} bytes.")
    except ClientDisconnect:
        raise invalid("body", "The body did not arrive.") from None
    return bytes(held)


def _idempotency_key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not 0 < len(key) <= KEY_CHARS_MAX:
        raise invalid("Idempotency-Key", f"A header of 1 to {KEY_CHARS_MAX} characters is required.")
    return key
