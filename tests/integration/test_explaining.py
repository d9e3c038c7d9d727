"""One timeline of everything that is kept of a payment, and nothing secret in it, on both databases."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import explaining
from obol.v1 import billing_observation_pb2 as watching
from store import open_store
from tests.integration.house import House, State
from tests.integration.operators import (
    NOT_EXECUTED,
    Operator,
    deliver,
    event,
    execute,
    lost_refund,
    outlast_flight,
    quiet_house,
    resting,
)
from tests.store import making

CARD = "4242 4242 4242 4242"
PLANTED = ("planted-bearer-token", "pi_1_secret_planted", "4242424242424242", "planted-cvc", "planted-password")


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway whose recovery sleeps."""
    async with quiet_house(database_url, tmp_path) as opened:
        yield opened


@pytest.fixture
def ann(house: House) -> Operator:
    """An operator."""
    return Operator(house, "ann")


async def test_a_timeline_tells_calls_callbacks_versions_acts_and_decisions(house: House, ann: Operator) -> None:
    """Every kind of entry, oldest first, with the exact request of each call but for what is secret."""
    lost = await lost_refund(house, "lost_before")
    callback_id = await deliver(house, "evt_1", event("evt_1", await house.object(lost.provider_payment_id)))

    await resting(ann, callback_id)
    request = watching.ListObservationsRequest()
    listed = await house.observations.ListObservations(request, metadata=house.metadata, timeout=10)
    word = watching.AcceptObservationsRequest(
        consumer="ledger", observation_ids=[listed.observations[0].observation_id]
    )
    await house.observations.AcceptObservations(word, metadata=house.metadata, timeout=10)
    await outlast_flight(house.database_url)
    await ann.resolve(lost.command_id, NOT_EXECUTED)
    await keep_evidence(house, lost.payment_id, "a late reply")
    explained = await ann.call("ExplainPayment", tenant_id="t1", payment_id=lost.payment_id)
    kinds = [entry.kind for entry in explained.timeline]
    assert set(kinds) == {"CALL", "VERSION", "CALLBACK", "EVIDENCE", "OPERATOR", "AUDIT", "OBSERVATION", "DECISION"}
    times = [entry.time.ToNanoseconds() for entry in explained.timeline]
    assert times == sorted(times)
    assert not explained.truncated
    assert explained.payment.payment_id == lost.payment_id
    calls = [entry for entry in explained.timeline if entry.kind == "CALL"]
    assert {entry.summary.split()[0] for entry in calls} == {"CREATE", "REFUND"}
    refund = next(entry for entry in calls if entry.summary.startswith("REFUND"))
    body = json.loads(refund.details["request_body"])
    assert (body["amount"], body["metadata"]["obol_payment"]) == (400, lost.payment_id)
    assert refund.details["request"] == f"POST /v1/payments/{lost.provider_payment_id}/refunds"
    assert "Authorization" not in refund.details["request_headers"]
    assert "UNKNOWN" in refund.summary


async def test_planted_secrets_are_nowhere_in_an_explanation(house: House, ann: Operator) -> None:
    """In a request's path, headers and body, a failure, a callback's note and in evidence: each is redacted."""
    payment = await house.create(payment_method="card_requires_action")
    assert payment.state == State.PAYMENT_STATE_REQUIRES_ACTION
    prepared = [
        "POST",
        "/v1/payments?client_secret=pi_1_secret_planted",
        json.dumps(
            {
                "card": {"number": CARD, "cvc": "planted-cvc"},
                "note": f"paid with {CARD}",
                "nested": [{"clientSecret": "pi_1_secret_planted"}],
                "amount": 1_000,
            }
        ),
        "key",
        "v1",
        60,
        {
            "Authorization": "Bearer planted-bearer-token",
            "Content-Type": "application/json",
            "X-New": "planted-password",
        },
    ]
    failure = f"Bearer planted-bearer-token pi_1_secret_planted https://a:planted-password@h/?t=planted-cvc {CARD}"
    await execute(
        house.database_url,
        "UPDATE operations SET prepared = :prepared, failure = :failure",
        prepared=json.dumps(prepared),
        failure=failure,
    )
    await resting(ann, await deliver(house, "evt_1", b"not json"))
    await execute(
        house.database_url,
        "UPDATE callbacks SET note = :failure, tenant_id = 't1', payment_id = :payment_id",
        failure=failure,
        payment_id=payment.payment_id,
    )
    await keep_evidence(house, payment.payment_id, failure)
    explained = await ann.call("ExplainPayment", tenant_id="t1", payment_id=payment.payment_id)
    assert {"CALL", "CALLBACK", "EVIDENCE"} <= {entry.kind for entry in explained.timeline}
    told = str(explained).replace(" ", "")
    assert [secret for secret in PLANTED if secret in told] == []
    assert not explained.payment.HasField("next_action")
    call = next(entry for entry in explained.timeline if entry.kind == "CALL")
    assert json.loads(call.details["request_body"])["amount"] == 1_000


async def test_a_timeline_is_bounded_and_says_so(house: House, ann: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest entries, as many as allowed, and a sign that more happened."""
    payment = await house.create()
    whole = await ann.timeline(payment.payment_id)
    monkeypatch.setattr(explaining, "ENTRIES_MAX", 2)
    explained = await ann.call("ExplainPayment", tenant_id="t1", payment_id=payment.payment_id)
    assert explained.truncated
    assert list(explained.timeline) == whole[:2]
    monkeypatch.setattr(explaining, "PAGE_BYTES_MAX", len(whole[0].SerializeToString()) + 100)
    explained = await ann.call("ExplainPayment", tenant_id="t1", payment_id=payment.payment_id)
    assert (explained.truncated, len(explained.timeline)) == (True, 1)


async def keep_evidence(house: House, payment_id: str, words: str) -> None:
    """What a holder that lost its fence had to say."""
    store = await open_store(house.database_url)
    aggregate = await store.load("t1", payment_id)
    assert aggregate is not None
    await store.append_evidence(aggregate.operations[-1], words, making.audit(payment_id=payment_id))
    await store.close()
