"""Callbacks of each provider: genuine ones pass, everything else does not, and what passes is understood."""

from dataclasses import replace

import pytest

from providers.callbacks import CallbackRejected, CallbackSettings, Rejection, build_verifier
from providers.secret import Secret
from tests.conformance.rig import TIMEOUT_S, Rig

NOW_S = 1_800_000_000.0


async def body_of(rig: Rig) -> bytes:
    """The body of a genuine event."""
    await rig.created()
    listed = await rig.events.list_events(after_event_id="", limit=1, timeout_s=TIMEOUT_S)
    return listed[0].body


def secret_of(settings: CallbackSettings) -> str:
    return settings.secrets[0].reveal()


async def test_a_genuine_callback_is_passed_on_and_understood(rig: Rig) -> None:
    """Signed now with the account's secret: the verifier and the adapter agree what it is."""
    body, settings = await body_of(rig), rig.driver.callbacks
    headers = rig.driver.signed(body, secret=secret_of(settings), now_s=NOW_S)
    event = await build_verifier(settings).verify(body, headers, now_s=NOW_S)
    hint = rig.reads.interpret(body, headers)
    assert (event.event_id, event.event_type) == (hint.event_id, hint.event_type)
    assert hint.provider_payment_id


@pytest.mark.parametrize(
    ("secret", "age", "reason"),
    [
        ("of-somebody-else", 0, Rejection.FORGED),
        (None, 1, Rejection.STALE),
        (None, -1, Rejection.FUTURE),
    ],
)
async def test_a_callback_that_is_not_genuine_now_is_rejected(
    rig: Rig, secret: str | None, age: int, reason: Rejection
) -> None:
    """Another's signature, an old one, one from the future: twelve times what is tolerated."""
    body, settings = await body_of(rig), rig.driver.callbacks
    age_s = 12.0 * age * settings.tolerance_s
    headers = rig.driver.signed(body, secret=secret or secret_of(settings), now_s=NOW_S - age_s)
    with pytest.raises(CallbackRejected) as refused:
        await build_verifier(settings).verify(body, headers, now_s=NOW_S)
    assert refused.value.reason is reason


async def test_an_unsigned_callback_is_rejected(rig: Rig) -> None:
    """Without a signature, and without a secret to check it, nothing passes."""
    body, settings = await body_of(rig), rig.driver.callbacks
    for secrets in (settings.secrets, ()):
        verifier = build_verifier(replace(settings, secrets=secrets))
        with pytest.raises(CallbackRejected):
            await verifier.verify(body, {}, now_s=NOW_S)


async def test_both_secrets_pass_while_one_is_replaced(rig: Rig) -> None:
    """During a rotation the old and the new secret are good."""
    body, settings = await body_of(rig), rig.driver.callbacks
    rotating = replace(settings, secrets=(Secret("the-next-one"), *settings.secrets))
    for secret in ("the-next-one", secret_of(settings)):
        headers = rig.driver.signed(body, secret=secret, now_s=NOW_S)
        assert (await build_verifier(rotating).verify(body, headers, now_s=NOW_S)).event_id


async def test_a_changed_body_is_rejected(rig: Rig) -> None:
    """A genuine signature does not carry another amount."""
    body, settings = await body_of(rig), rig.driver.callbacks
    headers = rig.driver.signed(body, secret=secret_of(settings), now_s=NOW_S)
    changed = body.replace(b"12345", b"99999").replace(b"123.45", b"999.99")
    assert changed != body
    with pytest.raises(CallbackRejected):
        await build_verifier(settings).verify(changed, headers, now_s=NOW_S)


def test_what_is_no_event_is_a_value_error(rig: Rig) -> None:
    """Interpreting something else raises ValueError and nothing else."""
    reads = rig.reads
    for body in (b"", b"null", b"{}", b"\xff", b"[" * 100_000):
        with pytest.raises(ValueError, match=r"\w"):
            reads.interpret(body, {})
