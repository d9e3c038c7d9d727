"""A provider inside the gateway's process that answers at once, or after as long as it is told.

What is measured is then the gateway, and nothing of a network or of somebody else's books. The gateway finds it as it
finds any provider from outside: through the entry point `obol.providers` (`bench.processes` installs one for a run).
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gateway.domain.commands import PreparedRequest
from gateway.domain.money import CURRENCY_EXPONENTS
from gateway.domain.movements import (
    Attempt,
    AttemptStatus,
    Closure,
    Facts,
    Movement,
    MovementKind,
    MovementStatus,
    ProviderObject,
)
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, Payment, PaymentTerms
from gateway.domain.providers import (
    Absent,
    Answered,
    CallbackHint,
    Capabilities,
    Found,
    Lookup,
    NotSent,
    OperationReference,
    Outcome,
    Snapshot,
    Unreadable,
)
from providers.sandbox.callbacks import interpret
from providers.settings import ProviderAccountSettings, ProviderHooks

PROVIDER = "instant"
BOOKS_MAX = 8_192
"""Payments that an account remembers; older ones are forgotten, so that the books are no part of a memory figure."""

_DAY_S = 24 * 3600
_HEADERS = MappingProxyType({"Content-Type": "application/json"})

CAPABILITIES = Capabilities(
    provider=PROVIDER,
    currencies=frozenset(CURRENCY_EXPONENTS),
    capture_methods=frozenset(CaptureMethod),
    confirmation_methods=frozenset(ConfirmationMethod),
    partial_capture=True,
    multiple_capture=True,
    refunds=True,
    partial_refund=True,
    key_window_s=_DAY_S,
    absence_is_consistent=True,
    flight_s_max=120,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How an account answers: `answer_after_s` after the call, or after the last of `gate_calls` calls has come.

    With a gate, `gate_file` is written when it is reached, so that the bench knows that all of them wait. `dead`: no
    look-up is ever answered.
    """

    answer_after_s: float = 0.0
    gate_calls: int = 0
    gate_file: Path | None = None
    dead: bool = False

    @classmethod
    def of(cls, options: Mapping[str, str]) -> "Patience":
        """From an account's options. Raises ValueError."""
        file = options.get("gate_file", "")
        return cls(
            float(options.get("answer_after_s", "0")),
            int(options.get("gate_calls", "0")),
            Path(file) if file else None,
            dead=options.get("look_ups") == "hang",
        )


def build(settings: ProviderAccountSettings, hooks: ProviderHooks) -> "InstantAdapter":
    """An AdapterBuilder."""
    return InstantAdapter(settings.account_id, Patience.of(settings.options))


class InstantAdapter:
    """Takes, captures, cancels and refunds whatever it is asked to; reads the sandbox's callbacks."""

    def __init__(self, account_id: str, patience: Patience) -> None:
        self._account_id = account_id
        self._patience = patience
        self._books: OrderedDict[str, Snapshot] = OrderedDict()
        self._waiting = 0
        self._gate = asyncio.Event()
        self._acts: Mapping[str, Callable[[dict[str, Any]], Outcome]] = {
            "payments": self._take,
            "confirm": self._confirm,
            "capture": self._capture,
            "cancel": self._cancel,
            "refunds": self._refund,
        }

    @property
    def account_id(self) -> str:
        return self._account_id

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def prepare_create(self, reference: OperationReference, terms: PaymentTerms) -> PreparedRequest:
        body = {
            "amount": terms.amount_minor,
            "currency": terms.currency,
            "hold": terms.capture_method is CaptureMethod.MANUAL,
            "confirm": terms.confirmation_method is ConfirmationMethod.AUTOMATIC,
            "payment_method": terms.payment_method,
            "customer": terms.customer_reference,
            "description": terms.description,
            "statement_descriptor": terms.statement_descriptor,
            "return_url": terms.return_url,
            "order": terms.order_reference,
        }
        return _prepared(reference, "/payments", body)

    def prepare_confirm(
        self, reference: OperationReference, payment: Payment, *, payment_method: str, return_url: str
    ) -> PreparedRequest:
        body = {"of": payment.provider_payment_id, "payment_method": payment_method, "return_url": return_url}
        return _prepared(reference, "/payments/confirm", body)

    def prepare_capture(
        self, reference: OperationReference, payment: Payment, *, amount_minor: int, final: bool
    ) -> PreparedRequest:
        body = {"of": payment.provider_payment_id, "amount": amount_minor, "final": final}
        return _prepared(reference, "/payments/capture", body)

    def prepare_cancel(self, reference: OperationReference, payment: Payment, *, reason: str) -> PreparedRequest:
        return _prepared(reference, "/payments/cancel", {"of": payment.provider_payment_id, "reason": reason})

    def prepare_refund(
        self, reference: OperationReference, payment: Payment, *, amount_minor: int, reason: str
    ) -> PreparedRequest:
        body = {"of": payment.provider_payment_id, "amount": amount_minor, "reason": reason}
        return _prepared(reference, "/payments/refunds", body)

    async def execute(self, prepared: PreparedRequest, *, send_before: float, timeout_s: float) -> Outcome:
        """Do what was prepared, and answer as the account's patience says."""
        if asyncio.get_running_loop().time() > send_before:
            return NotSent("late")
        await self._wait()
        return self._acts[prepared.path.rpartition("/")[2]](json.loads(prepared.body))

    async def fetch(self, provider_payment_id: str, *, timeout_s: float) -> Lookup:
        """The payment by this provider's id, as long as it is remembered."""
        if self._patience.dead:
            return await _hang(timeout_s)
        found = self._books.get(provider_payment_id)
        return Absent(consistent=True) if found is None else Found(found)

    async def lookup(self, payment_id: str, *, timeout_s: float) -> Lookup:
        """The payment by ours."""
        if self._patience.dead:
            return await _hang(timeout_s)
        found = next((each for each in self._books.values() if each.payment_id == payment_id), None)
        return Absent(consistent=True) if found is None else Found(found)

    def interpret(self, body: bytes, headers: Mapping[str, str]) -> CallbackHint:
        """Callbacks have the sandbox's form. Raises ValueError."""
        return interpret(body)

    async def close(self) -> None:
        """Nothing is held."""

    async def _wait(self) -> None:
        patience = self._patience
        if patience.gate_calls:
            self._waiting += 1
            gate = self._gate
            if self._waiting == patience.gate_calls:
                self._waiting, self._gate = 0, asyncio.Event()
                if patience.gate_file is not None:
                    # One small file for a thousand calls; the loop is not held up by it.
                    patience.gate_file.touch()
                gate.set()
            await gate.wait()
        if patience.answer_after_s:
            await asyncio.sleep(patience.answer_after_s)

    def _take(self, asked: dict[str, Any]) -> Outcome:
        references = asked["metadata"]
        operation_id = references["operation"]
        provider_id = f"in_{operation_id.rpartition('_')[2]}"
        facts = Facts(objects=(ProviderObject(self._account_id, provider_id),))
        snapshot = Snapshot(
            self._account_id,
            provider_id,
            asked["amount"],
            asked["currency"],
            facts,
            payment_id=references["payment"],
            tenant_id=references["tenant"],
        )
        if asked["confirm"]:
            snapshot = self._confirmed(snapshot, operation_id, hold=asked["hold"])
        return self._keep(snapshot)

    def _confirm(self, asked: dict[str, Any]) -> Outcome:
        snapshot = self._books[asked["of"]]
        return self._keep(self._confirmed(snapshot, asked["metadata"]["operation"], hold=False))

    def _capture(self, asked: dict[str, Any]) -> Outcome:
        return self._moved(asked, MovementKind.CAPTURE)

    def _refund(self, asked: dict[str, Any]) -> Outcome:
        return self._moved(asked, MovementKind.REFUND)

    def _cancel(self, asked: dict[str, Any]) -> Outcome:
        before = self._books[asked["of"]]
        closed = ProviderObject(self._account_id, before.provider_payment_id, Closure.CANCELLED)
        return self._keep(_with(before, Facts(objects=(closed,))))

    def _confirmed(self, snapshot: Snapshot, operation_id: str, *, hold: bool) -> Snapshot:
        provider_id = snapshot.provider_payment_id
        kinds = (MovementKind.AUTHORIZATION,) if hold else (MovementKind.AUTHORIZATION, MovementKind.CAPTURE)
        movements = tuple(self._movement(snapshot, kind, operation_id, snapshot.amount_minor) for kind in kinds)
        attempt = Attempt(self._account_id, provider_id, 1, AttemptStatus.SUCCEEDED, operation_id)
        return _with(snapshot, Facts(movements, (attempt,)))

    def _moved(self, asked: dict[str, Any], kind: MovementKind) -> Outcome:
        before = self._books[asked["of"]]
        movement = self._movement(before, kind, asked["metadata"]["operation"], asked["amount"])
        return self._keep(_with(before, Facts((movement,))), movement.provider_movement_id)

    def _movement(self, of: Snapshot, kind: MovementKind, operation_id: str, amount_minor: int) -> Movement:
        return Movement(
            self._account_id,
            kind,
            f"{kind.lower()[:3]}_{operation_id.rpartition('_')[2]}",
            amount_minor,
            of.currency,
            MovementStatus.SUCCEEDED,
            operation_id,
        )

    def _keep(self, snapshot: Snapshot, result_id: str | None = None) -> Outcome:
        self._books[snapshot.provider_payment_id] = snapshot
        if len(self._books) > BOOKS_MAX:
            self._books.popitem(last=False)
        return Answered(snapshot, result_id)


async def _hang(timeout_s: float) -> Unreadable:
    await asyncio.sleep(timeout_s)
    return Unreadable(f"no answer within {timeout_s:g} s")


def _prepared(reference: OperationReference, path: str, body: Mapping[str, Any]) -> PreparedRequest:
    metadata = {
        "operation": reference.operation_id,
        "command": reference.command_id,
        "payment": reference.payment_id,
        "tenant": reference.caller.tenant_id,
        "correlation": reference.caller.correlation_id,
    }
    document = json.dumps({**body, "metadata": metadata}, separators=(",", ":"))
    return PreparedRequest("POST", path, document, reference.idempotency_key, "v1", _DAY_S, _HEADERS)


def _with(snapshot: Snapshot, facts: Facts) -> Snapshot:
    return Snapshot(
        snapshot.account_id,
        snapshot.provider_payment_id,
        snapshot.amount_minor,
        snapshot.currency,
        snapshot.facts.merge(facts),
        payment_id=snapshot.payment_id,
        tenant_id=snapshot.tenant_id,
    )
