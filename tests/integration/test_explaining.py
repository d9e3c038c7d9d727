"""One timeline of everything that is kept of a payment, and nothing secret in it, on both databases."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from gateway.app import explaining
from gateway.cli import app
from gateway.config_routing import RoutingSection, RuleSection
from gateway.config_sections import ProviderSection
from gateway.demo.installation import refusing
from obol.v1 import billing_observation_pb2 as watching
from obol.v1 import operations_pb2 as ops
from obol.v1 import payment_pb2
from store import open_store
from tests.integration.house import House, State, open_house
from tests.integration.operators import (
    NOT_EXECUTED,
    QUIET,
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
from tests.store.looking import rows

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
    listed = await house.observations.ListObservations(request, metadata=house.metadata, timeout=60)
    word = watching.AcceptObservationsRequest(
        consumer="ledger", observation_ids=[listed.observations[0].observation_id]
    )
    await house.observations.AcceptObservations(word, metadata=house.metadata, timeout=60)
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


@asynccontextmanager
async def routing_house(database_url: str, folder: Path) -> AsyncIterator[House]:
    """A rule over three accounts: one that takes nothing new, one at which nobody answers, and one that is well."""
    with closing(refusing()) as taken:
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        gone = ProviderSection(provider="sandbox", base_url=nowhere, api_key=SecretStr("k"), merchant_id="gone")
        rule = RuleSection(name="euros", accounts=("acct_idle", "acct_gone", "acct_main"), currencies=("EUR",))
        providers = {"acct_gone": gone, "acct_idle": gone.model_copy(update={"merchant_id": "idle"})}
        routing = RoutingSection(rules=(rule,))
        async with open_house(database_url, folder, engine=QUIET, providers=providers, routing=routing) as house:
            await Operator(house, "ann").call(
                "SetProviderMode", account_id="acct_idle", mode=ops.PROVIDER_MODE_DRAINING, reason="moving"
            )
            yield house


async def test_a_timeline_says_why_this_provider_and_where_it_was_before(database_url: str, tmp_path: Path) -> None:
    """The rule, what spoke against each account and how each try ended: in entries, as a message, on the screen."""
    async with routing_house(database_url, tmp_path) as house:
        payment = await house.create()
        explained = await Operator(house, "ann").call("ExplainPayment", tenant_id="t1", payment_id=payment.payment_id)
        given = ["explain", payment.payment_id, "--tenant", "t1", "--gateway", house.target, "--actor", "ann"]
        table = await asyncio.to_thread(CliRunner().invoke, app, given)
        document = await asyncio.to_thread(CliRunner().invoke, app, [*given, "--json"])
        named = await house.create("named", provider_preference={"account_id": "acct_main"})
        unrouted = await Operator(house, "ann").timeline(named.payment_id)
    choice, gone, chosen = [entry for entry in explained.timeline if entry.kind == "ROUTE"]
    assert choice == explained.timeline[0], "the choice is before what followed from it"
    assert choice.summary == (
        "rule euros matched; in order of preference: acct_gone, acct_main; acct_idle is left out: its mode is DRAINING"
    )
    assert (choice.details["rule"], choice.details["candidates"]) == ("euros", "acct_gone, acct_main")
    assert choice.details["reason 2"] == "acct_idle is left out: its mode is DRAINING"
    assert gone.summary.startswith("acct_gone NOT_SENT: ")
    assert chosen.summary == "acct_main CHOSEN"
    assert (gone.details["outcome"], gone.details["account_id"]) == ("NOT_SENT", "acct_gone")
    route = explained.route
    assert (route.rule, list(route.candidates)) == ("euros", ["acct_gone", "acct_main"])
    assert [(each.account_id, each.outcome, each.time) for each in route.attempts] == [
        ("acct_gone", payment_pb2.ROUTE_OUTCOME_NOT_SENT, gone.time),
        ("acct_main", payment_pb2.ROUTE_OUTCOME_CHOSEN, chosen.time),
    ]
    assert table.exit_code == 0
    assert all(entry.summary[:60] in table.output for entry in (choice, gone, chosen))
    # The gateway of this process logs into the same output.
    told = json.loads(document.output.splitlines()[-1])
    assert (told["route"]["rule"], told["timeline"][0]["kind"]) == ("euros", "ROUTE")
    assert [entry.summary for entry in unrouted if entry.kind == "ROUTE"] == [
        "the caller named acct_main",
        "acct_main CHOSEN",
    ]


async def test_a_timeline_tells_a_recovery_as_an_entry_of_its_own(database_url: str, tmp_path: Path) -> None:
    """An answer was lost and recovery looked: by which operation, and what came of it; without rules, no route."""
    async with open_house(database_url, tmp_path) as house:
        payment = await house.create(payment_method="card_answer_lost")
        await house.until(payment.payment_id, State.PAYMENT_STATE_CAPTURED)
        explained = await Operator(house, "ann").call("ExplainPayment", tenant_id="t1", payment_id=payment.payment_id)
    (recovery,) = [entry for entry in explained.timeline if entry.kind == "RECOVERY"]
    assert recovery.summary.startswith("CREATE.RECOVERY by ")
    assert recovery.summary.endswith(": SUCCEEDED")
    assert recovery.details["command_id"] == payment.latest_command.command_id
    assert not explained.HasField("route")
    assert "ROUTE" not in {entry.kind for entry in explained.timeline}


async def test_planted_secrets_are_not_in_a_route_either(database_url: str, tmp_path: Path) -> None:
    """An account's last words are a failure, and a failure can quote what was sent."""
    async with routing_house(database_url, tmp_path) as house:
        payment = await house.create()
        ((kept,),) = await rows(house.database_url, "SELECT route FROM payments")
        words = f"Bearer planted-bearer-token pi_1_secret_planted {CARD}"
        spoilt = json.loads(kept)
        spoilt["attempts"][0][2], spoilt["why"][0] = words, words
        await execute(house.database_url, "UPDATE payments SET route = :route", route=json.dumps(spoilt))
        explained = await Operator(house, "ann").call("ExplainPayment", tenant_id="t1", payment_id=payment.payment_id)
    told = str(explained).replace(" ", "")
    assert [secret for secret in PLANTED if secret in told] == []
    assert "redacted" in explained.route.attempts[0].detail
    assert "redacted" in explained.route.reasons[0]


async def keep_evidence(house: House, payment_id: str, words: str) -> None:
    """What a holder that lost its fence had to say."""
    store = await open_store(house.database_url)
    aggregate = await store.load("t1", payment_id)
    assert aggregate is not None
    await store.append_evidence(aggregate.operations[-1], words, making.audit(payment_id=payment_id))
    await store.close()
