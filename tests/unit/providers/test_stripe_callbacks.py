"""Stripe's callbacks: what is not signed by a secret of ours, now, is not passed on; what is leads to its payment."""

import json
from typing import Any

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.callbacks import (
    BODY_BYTES_MAX,
    CallbackRejected,
    CallbackSettings,
    Rejection,
    VerifiedEvent,
    build_verifier,
)
from providers.secret import Secret
from providers.stripe.callbacks import PAYMENT_EVENTS, interpret, verify
from simulators.stripe.imitation import signed_headers
from tests.unit.providers.stripe_objects import OURS, charge, dispute, intent, refund

NOW_S = 1_700_000_000
OLD, NEW = Secret("planted-old"), Secret("planted-new")


def event(
    kind: str = "payment_intent.succeeded", about: dict[str, Any] | None = None, **changed: Any
) -> dict[str, Any]:
    told = {
        "id": "evt_1",
        "object": "event",
        "type": kind,
        "created": NOW_S,
        "livemode": False,
        "data": {"object": intent() if about is None else about},
    }
    return {**told, **changed}


BODY = json.dumps(event()).encode()


def signed(body: bytes = BODY, *, secret: str = "planted-new", at_s: int = NOW_S) -> dict[str, str]:
    return dict(signed_headers(secret, at_s, body))


def rejected(body: bytes, headers: dict[str, str], *secrets: Secret, now_s: float = NOW_S) -> Rejection:
    with pytest.raises(CallbackRejected) as found:
        verify(body, headers, secrets, now_s)
    return found.value.reason


def test_a_genuine_callback_is_passed_on() -> None:
    """Signed with the secret, now: the event's own words come back."""
    assert verify(BODY, signed(), [NEW], NOW_S) == VerifiedEvent("evt_1", "payment_intent.succeeded", False)


def test_our_signature_is_the_sdks() -> None:
    """The SDK's own verifier takes what we take."""
    header = signed()["Stripe-Signature"]
    stripe.WebhookSignature.verify_header(BODY.decode(), header, "planted-new", tolerance=None)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(BODY.decode() + " ", header, "planted-new", tolerance=None)
    assert rejected(BODY + b" ", {"Stripe-Signature": header}, NEW) is Rejection.FORGED


@pytest.mark.parametrize("secret", ["planted-old", "planted-new"])
def test_both_secrets_hold_while_one_is_replaced(secret: str) -> None:
    """During a rotation either secret's signature is right, also where Stripe signs with both."""
    assert verify(BODY, signed(secret=secret), [OLD, NEW], NOW_S).event_id == "evt_1"
    both = signed()["Stripe-Signature"] + ",v1=" + "0" * 64 + ",v0=" + "1" * 64
    assert verify(BODY, {"Stripe-Signature": both}, [OLD, NEW], NOW_S).event_id == "evt_1"


def test_without_a_secret_everything_is_rejected() -> None:
    """No secret, or an empty one, is no permission to accept unsigned events."""
    assert rejected(BODY, {}) is Rejection.NO_SECRET
    assert rejected(BODY, signed(secret=""), Secret("")) is Rejection.NO_SECRET
    assert rejected(BODY, signed(secret=""), Secret(""), NEW) is Rejection.FORGED


def test_an_unsigned_callback_is_rejected() -> None:
    """No header, no entry; two headers, neither."""
    assert rejected(BODY, {"Content-Type": "application/json"}, NEW) is Rejection.UNSIGNED
    good = signed()["Stripe-Signature"]
    assert rejected(BODY, {"Stripe-Signature": good, "stripe-signature": good}, NEW) is Rejection.FORGED


@pytest.mark.parametrize(
    ("age_s", "reason"), [(301, Rejection.STALE), (-301, Rejection.FUTURE), (-31_536_000, Rejection.FUTURE)]
)
def test_a_time_too_far_from_now_is_rejected(age_s: int, reason: Rejection) -> None:
    """Too old is a replay; a year ahead would be replayable for a year."""
    assert rejected(BODY, signed(at_s=NOW_S - age_s), NEW) is reason


def test_a_second_time_makes_a_header_forged() -> None:
    """Which of two times was signed is nobody's guess."""
    good = signed()["Stripe-Signature"]
    assert rejected(BODY, {"Stripe-Signature": f"{good},t={NOW_S + 200}"}, NEW) is Rejection.FORGED


def test_a_tolerance_of_nothing_is_refused() -> None:
    """In the SDK 0 switches the check off; here it cannot be configured."""
    with pytest.raises(ValueError, match="tolerance"):
        build_verifier(CallbackSettings("stripe", "acc-1", (NEW,), tolerance_s=0))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=1,v1=",
        "v1=" + "a" * 64,
        f"t={NOW_S}",
        f"t={NOW_S},v1={'ä' * 64}",
        f"t=١٧٠٠٠٠٠٠٠٠,v1={'a' * 64}",
        f"t={NOW_S},t={NOW_S},v1={'a' * 64}",
        f"t={NOW_S},v0={'a' * 64}",
        f"t=-1,v1={'a' * 64}",
        f"t=1e9,v1={'a' * 64}",
        f"t={'9' * 5000},v1={'a' * 64}",
        f"t={NOW_S},v1={'a' * 64}\n",
        "t=" + str(NOW_S) + (",v1=" + "a" * 64) * 1000,
        f"t={NOW_S},v1={'A' * 64}",
    ],
)
def test_a_malformed_header_is_forged(header: str) -> None:
    """Non-ASCII text, other digits, repetitions and absurd sizes are refused, not raised."""
    assert rejected(BODY, {"Stripe-Signature": header}, NEW) is Rejection.FORGED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"id": "evt_1", "id": "evt_2"}',
        json.dumps(event(object="charge")).encode(),
        json.dumps(event(livemode="no")).encode(),
        b" " * (BODY_BYTES_MAX + 1),
    ],
)
def test_what_is_signed_and_no_event_is_unreadable(body: bytes) -> None:
    """Bad UTF-8, deep nesting, doubled keys: malformed, whoever signed it."""
    assert rejected(body, signed(body), NEW) is Rejection.UNREADABLE


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=200))
def test_nothing_but_a_rejection_is_raised(body: bytes, header: str) -> None:
    """Whatever comes in, it is a rejection with a reason."""
    with pytest.raises(CallbackRejected):
        verify(body, {"Stripe-Signature": header}, [NEW], NOW_S)


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("payment_intent.succeeded", intent()),
        ("charge.refunded", charge()),
        ("charge.dispute.created", dispute(payment_intent="pi_1")),
        ("refund.failed", refund(payment_intent="pi_1")),
        ("charge.refund.updated", refund(payment_intent={"id": "pi_1", "object": "payment_intent"})),
    ],
)
def test_what_concerns_a_payment_leads_to_it(kind: str, about: dict[str, Any]) -> None:
    """A charge, a refund and a dispute name their PaymentIntent, expanded or not."""
    hint = interpret(json.dumps(event(kind, about)).encode())
    assert (hint.provider_payment_id, hint.known_type, hint.provider_time_us) == ("pi_1", True, NOW_S * 1_000_000)


def test_our_references_come_along() -> None:
    """An event may come before its payment's id: then our own is what it is found by."""
    hint = interpret(BODY)
    assert (hint.payment_id, hint.tenant_id) == (OURS["obol_payment"], OURS["obol_tenant"])


@pytest.mark.parametrize(
    ("kind", "object_name"),
    [
        ("checkout.session.completed", "checkout.session"),
        ("invoice.paid", "invoice"),
        ("customer.subscription.deleted", "subscription"),
        ("setup_intent.succeeded", "setup_intent"),
        ("account.updated", "account"),
        ("payout.paid", "payout"),
    ],
)
def test_what_the_gateway_does_not_know_yet_is_kept(kind: str, object_name: str) -> None:
    """Known, of no payment of ours: acknowledged and kept, to be replayed once there is something to do with it."""
    about = {"id": "x_1", "object": object_name, "payment_intent": "pi_1"}
    hint = interpret(json.dumps(event(kind, about)).encode())
    assert (hint.provider_payment_id, hint.known_type) == (None, True)


def test_an_unheard_of_type_is_said_so() -> None:
    """A type that we do not know is kept too, and counted by whoever asks."""
    hint = interpret(json.dumps(event("quantum.entangled", {"id": "q_1", "object": "quantum"})).encode())
    assert (hint.provider_payment_id, hint.known_type) == (None, False)


def test_a_charge_without_a_payment_intent_is_of_no_payment() -> None:
    """Charges of the older API have none."""
    body = json.dumps(event("charge.succeeded", charge(payment_intent=None))).encode()
    assert interpret(body).provider_payment_id is None


@pytest.mark.parametrize("odd", ["../charges", "pi_1/../..", "pi_" + "x" * 300, 7, ["pi_1"]])
def test_an_odd_id_leads_nowhere(odd: object) -> None:
    """What is no PaymentIntent's id is fetched from nowhere."""
    body = json.dumps(event("charge.succeeded", charge(payment_intent=odd))).encode()
    assert interpret(body).provider_payment_id is None


def test_an_event_of_a_connected_account_names_it() -> None:
    """Connect: the PaymentIntent is in that account, and read there where it is one that we act for."""
    body = json.dumps(event(account="acct_1")).encode()
    assert interpret(body, ("acct_1",)).provider_payment_id == "pi_1@acct_1"
    assert interpret(body).provider_payment_id is None
    assert interpret(body, own="acct_1").provider_payment_id == "pi_1"
    assert verify(body, signed(body), [NEW], NOW_S).merchant_id == "acct_1"


def test_a_thin_event_names_its_object() -> None:
    """Version 2: no object, but where it is, and whose."""
    thin = {
        "id": "evt_2",
        "object": "v2.core.event",
        "type": "v1.payment_intent.succeeded",
        "created": "2023-11-14T22:13:20.000Z",
        "livemode": True,
        "context": "acct_1",
        "related_object": {"id": "pi_1", "type": "payment_intent", "url": "/v1/payment_intents/pi_1"},
    }
    body = json.dumps(thin).encode()
    assert verify(body, signed(body), [NEW], NOW_S) == VerifiedEvent("evt_2", thin["type"], True, "acct_1")  # type: ignore[arg-type]  # a text
    hint = interpret(body, ("acct_1",))
    assert (hint.provider_payment_id, hint.known_type) == ("pi_1@acct_1", True)
    assert hint.provider_time_us == NOW_S * 1_000_000
    other = {**thin, "related_object": {"id": "fa_1", "type": "financial_account", "url": "/"}, "created": "soon"}
    hint = interpret(json.dumps(other).encode())
    assert (hint.provider_payment_id, hint.provider_time_us) == (None, None)


def test_every_event_that_we_need_is_a_stripe_event() -> None:
    """A misspelt type would never come: each is one that the SDK knows."""
    from stripe.params import WebhookEndpointCreateParams

    known = str(WebhookEndpointCreateParams.__annotations__["enabled_events"])
    assert len(PAYMENT_EVENTS) > 20
    assert not [kind for kind in PAYMENT_EVENTS if f"'{kind}'" not in known]
