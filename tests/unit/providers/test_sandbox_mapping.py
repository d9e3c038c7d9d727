"""The sandbox's objects in our words: complete tables, defensive reading, and nothing unknown taken for known."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.declines import DeclineReason, RetryAdvice
from gateway.domain.derivation import derive_payment_state
from gateway.domain.movements import RANKS, AttemptStatus, Closure, MovementKind, MovementStatus
from gateway.domain.providers import Snapshot
from gateway.domain.states import PaymentState
from providers.sandbox.mapping import ATTEMPTS, CLOSURES, DECLINES, MOVEMENTS, SandboxMapping
from simulators.sandbox import outcomes
from simulators.sandbox import payment as simulated
from tests.unit.providers.sandbox_objects import DECLINE, declined_payment, movement, payment


class Mapped:
    """A mapping and what it could not map."""

    def __init__(self, merchant_id: str = "") -> None:
        self.unmapped: list[tuple[str, str]] = []
        self.mapping = SandboxMapping("acc-1", merchant_id, lambda kind, value: self.unmapped.append((kind, value)))

    def snapshot(self, payload: object) -> Snapshot:
        return self.mapping.snapshot(payload)


def test_a_captured_payment_has_its_facts() -> None:
    """One capture with our operation id, its fee, its attempt and an open object."""
    snapshot = Mapped().snapshot(payment())
    capture, fee = snapshot.facts.movements
    assert (capture.kind, capture.amount_minor, capture.operation_id) == (MovementKind.CAPTURE, 1000, "op_1")
    assert (fee.kind, fee.amount_minor, fee.operation_id) == (MovementKind.FEE, 29, None)
    assert snapshot.facts.attempts[0].status is AttemptStatus.SUCCEEDED
    assert snapshot.facts.objects[0].closure is Closure.OPEN
    assert (snapshot.account_id, snapshot.payment_id, snapshot.tenant_id) == ("acc-1", "pay_1", "tenant-a")
    assert (snapshot.amount_minor, snapshot.currency, snapshot.provider_time_us) == (1000, "USD", 1700000001000000)
    assert snapshot.unmapped == ()
    assert derive_payment_state(snapshot.facts, ()) is PaymentState.CAPTURED


def test_a_movement_without_our_metadata_is_the_providers() -> None:
    """A refund of the dashboard has no operation of ours."""
    refund = movement("sref", "succeeded", 300, metadata={}, reason=None)
    snapshot = Mapped().snapshot(payment(refunds=[refund]))
    adopted = next(each for each in snapshot.facts.movements if each.kind is MovementKind.REFUND)
    assert adopted.operation_id is None


def test_a_decline_is_told_with_the_providers_words() -> None:
    """Reason and advice come from the tables; code and message stay beside them."""
    snapshot = Mapped().snapshot(declined_payment())
    assert snapshot.decline is not None
    assert (snapshot.decline.reason, snapshot.decline.provider_code) == (
        DeclineReason.INSUFFICIENT_FUNDS,
        "insufficient_funds",
    )
    assert snapshot.decline.advice is RetryAdvice.RETRY_LATER
    assert snapshot.facts.attempts[0].decline == snapshot.decline


def test_an_earlier_decline_is_not_the_payments() -> None:
    """After a later attempt succeeded the payment has no decline; the failed attempt keeps its own."""
    assert Mapped().snapshot(payment(last_decline=dict(DECLINE))).decline is None


def test_a_redirect_is_the_next_action() -> None:
    """The payer's way and the browser's secret are passed on."""
    action = {"type": "redirect", "url": "http://127.0.0.1/customer/spay_1", "client_secret": "ssec_1"}
    snapshot = Mapped().snapshot(payment(status="requires_action", captures=[], next_action=action))
    assert snapshot.next_action is not None
    assert (snapshot.next_action.redirect_url, snapshot.next_action.client_secret) == (action["url"], "ssec_1")


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"status": "quantum_held"}, "payment.status"),
        ({"captures": [movement("scap", "quantum_held")]}, "capture.status"),
        ({"refunds": [movement("sref", "quantum_held")]}, "refund.status"),
        ({"disputes": [movement("sdis", "quantum_held")]}, "dispute.status"),
        ({"authorization": movement("sauth", "quantum_held")}, "authorization.status"),
        ({"attempts": [{"number": 1, "status": "quantum_held", "operation": None, "decline": None}]}, "attempt.status"),
        ({"next_action": {"type": "quantum_held", "url": "x", "client_secret": "y"}}, "next_action.type"),
    ],
)
def test_an_unknown_value_is_named_and_counted(changed: dict[str, Any], kind: str) -> None:
    """A value that no table has is neither guessed nor dropped: the snapshot names it, and the hook hears it."""
    mapped = Mapped()
    snapshot = mapped.snapshot(payment(**changed))
    assert snapshot.unmapped == (f"{kind}=quantum_held",)
    assert mapped.unmapped == [(kind, "quantum_held")]


def test_an_unknown_decline_is_unmapped_and_counted() -> None:
    """A decline with a new code is a decline all the same, with reason UNMAPPED."""
    mapped = Mapped()
    declined = declined_payment()
    declined["last_decline"] = {"code": "quantum_flux", "message": "", "advice": "wait_and_see", "attempt": 1}
    snapshot = mapped.snapshot(declined)
    assert snapshot.decline is not None
    assert (snapshot.decline.reason, snapshot.decline.advice) == (DeclineReason.UNMAPPED, RetryAdvice.NONE)
    assert mapped.unmapped == [("decline", "quantum_flux"), ("advice", "wait_and_see")]


def test_another_account_is_refused() -> None:
    """An object of another account at the provider is no answer."""
    assert Mapped("acct_main").snapshot(payment()).account_id == "acc-1"
    with pytest.raises(ValueError, match="account"):
        Mapped("acct_main").snapshot(payment(account="acct_other"))


def paths(value: object, *way: Any) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(path for key, child in below for path in paths(child, *way, key))]


FULL = payment(
    authorization=movement("sauth", "succeeded", amount_capturable=0),
    refunds=[movement("sref", "succeeded", 10, reason=None)],
    disputes=[movement("sdis", "open", 5, reason="fraudulent")],
    next_action={"type": "redirect", "url": "http://127.0.0.1/", "client_secret": "s"},
    last_decline=dict(DECLINE),
)

WRONG = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}), st.just([None])
)


@settings(deadline=None)  # a busy machine is no broken promise
@given(st.sampled_from(paths(FULL)[1:]), WRONG)
def test_a_wrong_type_anywhere_is_refused_or_harmless(path: tuple[Any, ...], wrong: object) -> None:
    """Whatever stands in whatever field, reading it gives a snapshot or a ValueError, never another exception."""
    broken = json.loads(json.dumps(FULL))
    holder: Any = broken
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = wrong
    try:
        snapshot = Mapped("acct_main").snapshot(broken)
    except ValueError:
        return
    assert snapshot.amount_minor >= 0


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": 10.0},
        {"amount": "1000"},
        {"amount": True},
        {"amount": -1},
        {"amount": 10**15},
        {"currency": "XXQ"},
        {"currency": "usd"},
        {"id": ""},
        {"id": 7},
        {"captures": {}},
        {"captures": None},
        {"captures": [{**movement("scap", "succeeded"), "amount": 1.5}]},
        {"captures": [movement("scap", "succeeded"), 1]},
        {"metadata": {"obol_payment": 1}},
        {"attempts": [{"number": 0, "status": "failed", "operation": None, "decline": None}]},
        {"attempts": [{"number": True, "status": "failed", "operation": None, "decline": None}]},
        {"updated": 10**15},
    ],
)
def test_what_is_no_payment_is_unreadable(changed: dict[str, Any]) -> None:
    """A field of the wrong type, sign or size makes the whole answer unreadable."""
    with pytest.raises(ValueError, match=r"\w"):
        Mapped().snapshot(payment(**changed))


def test_the_tables_know_everything_that_the_sandbox_can_say() -> None:
    """Each status that the simulator declares is in its table, and leads to a status of that kind."""
    assert set(CLOSURES) == set(get_args(simulated.PaymentStatus))
    assert set(ATTEMPTS) == set(get_args(simulated.AttemptStatus))
    declared = {
        MovementKind.AUTHORIZATION: simulated.AuthorizationStatus,
        MovementKind.CAPTURE: simulated.CaptureStatus,
        MovementKind.REFUND: simulated.RefundStatus,
        MovementKind.DISPUTE: simulated.DisputeStatus,
    }
    for kind, statuses in declared.items():
        assert set(MOVEMENTS[kind]) == set(get_args(statuses))
        assert all((kind, status) in RANKS for status in MOVEMENTS[kind].values())
    # `quantum_flux` is there to be unknown.
    assert set(DECLINES) == set(outcomes.DECLINES) - {"quantum_flux"}


def test_an_unmapped_movement_hides_no_other() -> None:
    """The facts that are known are told beside the value that is not."""
    captures = [movement("scap", "quantum_held"), movement("scap", "succeeded", id="scap_2")]
    snapshot = Mapped().snapshot(payment(captures=captures))
    assert [each.provider_movement_id for each in snapshot.facts.movements] == ["scap_2", "sfee_1"]
    assert snapshot.facts.movements[0].status is MovementStatus.SUCCEEDED
