"""Callbacks: what is not signed by a secret of ours, now, is not passed on."""

import hashlib
import hmac
import json
import subprocess
import sys
from typing import Any

import pytest
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
from providers.sandbox.callbacks import EVENT_TYPES, interpret, verify
from providers.secret import Secret
from simulators.sandbox.events import signed_headers
from tests.unit.providers.sandbox_objects import payment

NOW_S = 1_700_000_000
OLD, NEW = Secret("planted-old"), Secret("planted-new")


def event(**changed: Any) -> dict[str, Any]:
    told = {
        "id": "sevt_1",
        "object": "event",
        "type": "payment.captured",
        "account": "acct_main",
        "created": NOW_S,
        "livemode": False,
        "data": {"object": payment()},
    }
    return {**told, **changed}


BODY = json.dumps(event()).encode()


def signed(body: bytes = BODY, *, secret: str = "planted-new", at_s: int = NOW_S) -> dict[str, str]:
    return dict(signed_headers("sevt_1", secret, at_s, body))


def rejected(body: bytes, headers: dict[str, str], *secrets: Secret, now_s: float = NOW_S) -> Rejection:
    with pytest.raises(CallbackRejected) as found:
        verify(body, headers, secrets, now_s)
    return found.value.reason


def test_a_genuine_callback_is_passed_on() -> None:
    """Signed with the secret, now: the event's own words come back."""
    assert verify(BODY, signed(), [NEW], NOW_S) == VerifiedEvent("sevt_1", "payment.captured", False, "acct_main")


@pytest.mark.parametrize("secret", ["planted-old", "planted-new"])
def test_both_secrets_hold_while_one_is_replaced(secret: str) -> None:
    """During a rotation either secret's signature is right."""
    assert verify(BODY, signed(secret=secret), [OLD, NEW], NOW_S).event_id == "sevt_1"


def test_a_retired_secret_holds_no_longer() -> None:
    """After the rotation the old secret's signature is forged."""
    assert rejected(BODY, signed(secret="planted-old"), NEW) is Rejection.FORGED


def test_without_a_secret_everything_is_rejected() -> None:
    """No secret, or an empty one, is no permission to accept unsigned events."""
    assert rejected(BODY, {}) is Rejection.NO_SECRET
    assert rejected(BODY, signed(secret=""), Secret("")) is Rejection.NO_SECRET
    assert rejected(BODY, signed(secret=""), Secret(""), NEW) is Rejection.FORGED


def test_an_unsigned_callback_is_rejected() -> None:
    """No header, no entry."""
    assert rejected(BODY, {"Content-Type": "application/json"}, NEW) is Rejection.UNSIGNED


def test_a_changed_body_is_forged() -> None:
    """A genuine signature covers its own bytes alone: $1 does not pay for $2,000."""
    assert rejected(BODY.replace(b"1000", b"9000"), signed(), NEW) is Rejection.FORGED
    assert rejected(BODY + b" ", signed(), NEW) is Rejection.FORGED


def test_a_changed_time_is_forged() -> None:
    """The signed time is part of what is signed: an old callback cannot be made young."""
    headers = signed(at_s=NOW_S - 9999)
    headers["Sandbox-Signature"] = headers["Sandbox-Signature"].replace(f"t={NOW_S - 9999}", f"t={NOW_S}")
    assert rejected(BODY, headers, NEW) is Rejection.FORGED


@pytest.mark.parametrize(
    ("age_s", "reason"), [(301, Rejection.STALE), (-301, Rejection.FUTURE), (31_536_000, Rejection.STALE)]
)
def test_a_time_too_far_from_now_is_rejected(age_s: int, reason: Rejection) -> None:
    """Too old is a replay; a year ahead would be replayable for a year."""
    assert rejected(BODY, signed(at_s=NOW_S - age_s), NEW) is reason


@pytest.mark.parametrize("age_s", [300, 0, -300])
def test_a_time_within_the_tolerance_is_taken(age_s: int) -> None:
    """Clocks may differ by the tolerance, both ways."""
    assert verify(BODY, signed(at_s=NOW_S - age_s), [NEW], NOW_S).event_id == "sevt_1"


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
    ],
)
def test_a_malformed_header_is_forged(header: str) -> None:
    """Non-ASCII text, other digits, repetitions and absurd sizes are refused, not raised."""
    assert rejected(BODY, {"Sandbox-Signature": header}, NEW) is Rejection.FORGED


def test_the_header_counts_once_and_in_any_case() -> None:
    """Header names have no case; two signatures headers are one too many."""
    good = signed()["Sandbox-Signature"]
    assert verify(BODY, {"SANDBOX-SIGNATURE": good}, [NEW], NOW_S).event_id == "sevt_1"
    assert rejected(BODY, {"Sandbox-Signature": good, "sandbox-signature": good}, NEW) is Rejection.FORGED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"id":"sevt_1","id":"sevt_2"}',
        b'{"id":NaN}',
        b'{"id":1e999}',
        b'{"id":' + b"9" * 5000 + b"}",
        b'{"id":"\\ud800"}',
        json.dumps(event(id=None)).encode(),
        json.dumps(event(type=7)).encode(),
        json.dumps(event(object="payment")).encode(),
        json.dumps(event(livemode="no")).encode(),
        BODY + b" " * BODY_BYTES_MAX,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_signed_body_that_is_no_event_is_unreadable(body: bytes) -> None:
    """Authentic nonsense is refused as malformed, whatever it tries to do to the parser."""
    assert rejected(body, signed(body), NEW) is Rejection.UNREADABLE


@settings(deadline=None)  # a busy machine is no broken promise
@given(st.binary(max_size=200), st.text(max_size=120))
def test_no_input_raises_anything_else(body: bytes, header: str) -> None:
    """Whatever comes in, the answer is an event or CallbackRejected."""
    with pytest.raises(CallbackRejected):
        verify(body, {"Sandbox-Signature": header}, [NEW], NOW_S)


@pytest.mark.parametrize("more", ["\n", " ", ",", ",v0=1"])
def test_a_genuine_header_with_more_is_forged(more: str) -> None:
    """The header is read whole or not at all."""
    assert rejected(BODY, {"Sandbox-Signature": signed()["Sandbox-Signature"] + more}, NEW) is Rejection.FORGED


def test_a_forged_callback_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser sees authentic bytes only."""
    monkeypatch.setattr("providers.sandbox.callbacks.parse_object", lambda body: pytest.fail("parsed"))
    assert rejected(BODY, signed(secret="planted-other"), NEW) is Rejection.FORGED


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every secret is compared with every signature, by compare_digest."""
    compared: list[tuple[str, str]] = []

    def counting(left: str, right: str) -> bool:
        compared.append((left, right))
        return left == right

    monkeypatch.setattr(hmac, "compare_digest", counting)
    verify(BODY, signed(secret="planted-old"), [OLD, NEW], NOW_S)
    assert len(compared) == 2


async def test_the_verifier_of_an_account_is_built_by_name() -> None:
    """The sidecar gets a verifier from settings alone."""
    verifier = build_verifier(CallbackSettings("sandbox", "acc-1", (OLD, NEW)))
    assert (await verifier.verify(BODY, signed(), now_s=NOW_S)).event_id == "sevt_1"
    await verifier.close()


def test_a_verifier_without_tolerance_is_refused() -> None:
    """A tolerance of 0 switches the check off elsewhere; here it is not accepted at all."""
    with pytest.raises(ValueError, match="tolerance_s"):
        build_verifier(CallbackSettings("sandbox", "acc-1", (NEW,), tolerance_s=0))


def test_an_unknown_provider_has_no_verifier() -> None:
    """A provider that nobody verifies is an error of configuration."""
    with pytest.raises(ValueError, match="nobody"):
        build_verifier(CallbackSettings("nobody", "acc-1", (NEW,)))


def test_a_hint_names_the_payment() -> None:
    """The event's payment, by the provider's id and by ours."""
    hint = interpret(BODY)
    assert (hint.event_id, hint.event_type, hint.known_type) == ("sevt_1", "payment.captured", True)
    assert (hint.provider_payment_id, hint.payment_id, hint.tenant_id) == ("spay_1", "pay_1", "tenant-a")
    assert hint.provider_time_us == NOW_S * 1_000_000


def test_an_unknown_type_is_told_as_such() -> None:
    """A new type of event is a hint all the same."""
    hint = interpret(json.dumps(event(type="payment.teleported")).encode())
    assert (hint.known_type, hint.provider_payment_id) == (False, "spay_1")


def test_an_event_of_no_payment_names_none() -> None:
    """An event about something else has no object to fetch."""
    for data in (None, {"object": {"object": "account", "id": "acct_main"}}, {}):
        assert interpret(json.dumps(event(data=data)).encode()).provider_payment_id is None


def test_no_event_is_a_value_error() -> None:
    """A body that is none of the provider's events raises ValueError and nothing else."""
    for body in (b"", b"{}", b"[" * 100_000, b'{"id":"a","type":"b","created":"c"}'):
        with pytest.raises(ValueError, match=r"\w"):
            interpret(body)


def test_every_type_that_the_sandbox_sends_is_known() -> None:
    """The table of types has what the simulator's modules name."""
    told = subprocess.run(
        ["grep", "-rhoE", r'"(payment|refund|dispute)\.[a-z_]+"', "simulators/sandbox"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {line.strip('"') for line in told.split()} == EVENT_TYPES


def test_verification_loads_no_http_client() -> None:
    """The sidecar loads the verifier without aiohttp, without an SDK, without the adapter."""
    program = (
        "import sys; from providers.callbacks import *; from providers.secret import Secret;"
        "build_verifier(CallbackSettings('sandbox', 'a', (Secret('s'),)));"
        "heavy = {'aiohttp', 'stripe', 'pybreaker', 'grpc', 'sqlalchemy', 'providers.http'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_digest_is_of_time_dot_body() -> None:
    """The scheme, written down once more and independently."""
    digest = hmac.new(b"planted-new", b"1700000000." + BODY, hashlib.sha256).hexdigest()
    assert verify(BODY, {"Sandbox-Signature": f"t=1700000000,v1={digest}"}, [NEW], NOW_S).event_id == "sevt_1"
