"""Every payment method does what its row in the table says."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from simulators.faults import FAULTS
from simulators.sandbox.outcomes import AMOUNTS, DECLINES, OUTCOMES, UNKNOWN_STATUS
from simulators.sandbox.settings import Terms
from tests.unit.simulators.rig import Caller, Clock, Opened, until

QUICK = 0.05
# How each fault looks to its caller, the first time. What is not here answers well.
BROKEN: dict[str, type[Exception] | int] = {
    "lost_after": aiohttp.ServerDisconnectedError,
    "lost_before": aiohttp.ServerDisconnectedError,
    "timeout_after": aiohttp.ServerDisconnectedError,
    "timeout_before": aiohttp.ServerDisconnectedError,
    "http_500_after": 500,
    "http_500_before": 500,
    "http_429": 429,
    "malformed": json.JSONDecodeError,
    "truncated": aiohttp.ClientPayloadError,
}
FAILING = [outcome.token for outcome in OUTCOMES.values() if outcome.fault is not None]
DECLINING = [outcome.token for outcome in OUTCOMES.values() if outcome.attempt == "decline"]
SETTLING = [outcome.token for outcome in OUTCOMES.values() if outcome.attempt == "process"]


@pytest.mark.parametrize("token", OUTCOMES)
@pytest.mark.parametrize("capture", ["automatic", "manual"])
async def test_every_method_books_what_its_row_says(opened: Opened, token: str, capture: str) -> None:
    """After the first request, whatever became of its answer, the books have the row's effect or none."""
    outcome = OUTCOMES[token]
    async with opened(hang_seconds=QUICK) as caller:
        try:
            await caller.pay(
                token, "first", capture=capture, metadata={"obol_payment": "pay_1", "obol_operation": "op_1"}
            )
        except (aiohttp.ClientError, json.JSONDecodeError) as error:
            assert outcome.fault in BROKEN, error  # noqa: PT017  the table says which
        effects = await caller.effects()
        listed = (await caller.get("/v1/payments?reference=pay_1")).body["data"]
    stage = FAULTS[outcome.fault].stage if outcome.fault else None
    moved = outcome.attempt == "approve" and stage != "before"
    kind = "capture" if capture == "automatic" else "authorization"
    assert [(each["kind"], each["amount"], each["operation"]) for each in effects] == [(kind, 1234, "op_1")] * moved
    assert len(listed) == (stage != "before")


@pytest.mark.parametrize("token", FAILING)
async def test_a_failing_method_fails_first_and_answers_later(opened: Opened, token: str) -> None:
    """The row's fault hits the key's first requests; a resend gets the stored answer or a fresh try, and one effect."""
    outcome = OUTCOMES[token]
    looks = BROKEN.get(outcome.fault or "", 200)
    async with opened(hang_seconds=QUICK) as caller:
        for _ in range(outcome.fault_times):
            if isinstance(looks, int):
                first = await caller.pay(token, "same")
                assert first.status == looks
            else:
                with pytest.raises(looks):
                    await caller.pay(token, "same")
        again = await caller.pay(token, "same")
        assert again.status == (500 if outcome.fault == "http_500_after" else 200)
        assert again.replayed is (FAULTS[outcome.fault or ""].stage == "after")
        assert len(await caller.effects()) == 1
        assert (await caller.injected())[outcome.fault or ""] == outcome.fault_times


@pytest.mark.parametrize("token", DECLINING)
async def test_a_declining_method_says_why_and_leaves_the_payment_open(caller: Caller, token: str) -> None:
    """402 with the row's code, its advice and the payment, which another method can still pay."""
    declined = await caller.pay(token)
    error, code = declined.body["error"], OUTCOMES[token].decline or ""
    assert (declined.status, error["code"], error["advice"]) == (402, code, DECLINES[code][1])
    assert error["payment"]["status"] == "requires_payment_method"
    assert error["payment"]["last_decline"]["attempt"] == 1
    paid = await caller.post(f"/v1/payments/{error['payment']['id']}/confirm", {"payment_method": "card_ok"})
    assert (paid.body["status"], paid.body["attempt"]) == ("captured", 2)


@pytest.mark.parametrize("token", SETTLING)
@pytest.mark.parametrize("capture", ["automatic", "manual"])
async def test_a_processing_method_settles_after_its_delay(
    opened: Opened, clock: Clock, token: str, capture: str
) -> None:
    """Processing with a pending movement first; then the row's end, by the clock, under the same movement id."""
    async with opened(terms=Terms(processing_seconds=5)) as caller:
        begun = (await caller.pay(token, capture=capture, metadata={"obol_operation": "op_1"})).body
        pending = begun["captures"][0] if capture == "automatic" else begun["authorization"]
        assert (begun["status"], pending["status"], await caller.effects()) == ("processing", "pending", [])
        clock.now += 5
        await until(lambda: _has_left(caller, begun["id"], "processing"))
        ended = (await caller.get(f"/v1/payments/{begun['id']}")).body
        movement = ended["captures"][0] if capture == "automatic" else ended["authorization"]
        assert (movement["id"], movement["status"]) == (pending["id"], OUTCOMES[token].settled)
        effects = [(each["id"], each["operation"], each["origin"]) for each in await caller.effects()]
        assert effects == [(pending["id"], "op_1", "provider")] * (OUTCOMES[token].settled == "succeeded")


@pytest.mark.parametrize(
    ("token", "outcome", "status"),
    [
        ("card_requires_action", "approve", "captured"),
        ("card_requires_action", "refuse", "requires_payment_method"),
        ("card_action_then_declined", "approve", "requires_payment_method"),
    ],
)
async def test_the_customer_decides_a_redirect(caller: Caller, token: str, outcome: str, status: str) -> None:
    """The redirect leads to a page; the customer's word books the attempt or declines it, once."""
    asked = (await caller.pay(token, metadata={"obol_operation": "op_1"})).body
    assert (asked["status"], asked["next_action"]["type"]) == ("requires_action", "redirect")
    assert asked["next_action"]["url"] == f"{caller.url}/customer/{asked['id']}"
    async with aiohttp.ClientSession() as browser:
        async with browser.get(asked["next_action"]["url"]) as page:
            assert "Approve" in await page.text()
        async with browser.post(asked["next_action"]["url"], data={"outcome": outcome}) as answer:
            assert answer.status == 200
        async with browser.post(asked["next_action"]["url"], json={"outcome": outcome}) as answer:
            assert answer.status == 400
    assert (await caller.get(f"/v1/payments/{asked['id']}")).body["status"] == status
    effects = [(each["operation"], each["origin"]) for each in await caller.effects()]
    assert effects == [("op_1", "customer")] * (status == "captured")


@pytest.mark.parametrize("end", ["confirm", "cancel"])
async def test_a_redirect_that_is_given_up_has_failed(caller: Caller, end: str) -> None:
    """Each attempt is told with its operation and its end; one that was left for another or cancelled has failed."""
    asked = (await caller.pay("card_requires_action", metadata={"obol_operation": "op_1"})).body
    told = [(each["number"], each["status"], each["operation"]) for each in asked["attempts"]]
    assert told == [(1, "requires_action", "op_1")]
    more = {"metadata": {"obol_operation": "op_2"}}
    ended = (await caller.post(f"/v1/payments/{asked['id']}/{end}", more)).body
    assert (ended["attempts"][0]["status"], ended["attempts"][0]["decline"]["code"]) == (
        "failed",
        "authentication_failed",
    )
    assert [each["operation"] for each in ended["attempts"]] == ["op_1", "op_2"][: 1 + (end == "confirm")]


async def test_a_wrong_amount_is_in_the_answer_only(caller: Caller) -> None:
    """The answer and its replay tell another amount; the books have the right one."""
    wrong = await caller.pay("card_wrong_amount_answer", "same")
    assert (wrong.body["amount"], wrong.body["captures"][0]["amount"]) == (1235, 1235)
    assert (await caller.pay("card_wrong_amount_answer", "same")).body == wrong.body
    assert (await caller.get(f"/v1/payments/{wrong.body['id']}")).body["amount"] == 1234


async def test_an_unknown_status_is_in_the_answer_only(caller: Caller) -> None:
    """The answer has statuses that no mapping knows; a lookup tells what is."""
    strange = (await caller.pay("card_unknown_status")).body
    assert {strange["status"], strange["captures"][0]["status"]} == {UNKNOWN_STATUS}
    assert (await caller.get(f"/v1/payments/{strange['id']}")).body["status"] == "captured"


async def test_a_huge_answer_is_as_large_as_told(caller: Caller) -> None:
    """The answer streams its padding: a caller that reads on holds all of it."""
    assert len((await caller.pay("card_huge_answer")).body["padding"]) >= 1_000_000


@pytest.mark.parametrize(
    ("token", "first", "last"),
    [("card_refund_pending", "pending", "succeeded"), ("card_refund_fails", "succeeded", "reversed")],
)
async def test_refunds_end_as_the_method_says(opened: Opened, clock: Clock, token: str, first: str, last: str) -> None:
    """A refund pends and succeeds, or succeeds and comes back, by the clock; the effects tell when money moved."""
    async with opened(terms=Terms(refund_seconds=5)) as caller:
        paid = (await caller.pay(token)).body
        refunded = (await caller.post(f"/v1/payments/{paid['id']}/refunds", {"amount": 34})).body
        refund = refunded["refunds"][0]
        assert (refund["status"], refund["amount"]) == (first, 34)
        clock.now += 5
        await until(lambda: _refund_is(caller, refund["id"], last))
        kinds = [each["kind"] for each in await caller.effects()]
        assert kinds == ["capture", "refund"] + ["reversal"] * (last == "reversed")


@pytest.mark.parametrize("capture", ["automatic", "manual"])
async def test_a_disputed_method_is_disputed_after_its_capture(opened: Opened, clock: Clock, capture: str) -> None:
    """The dispute opens by the clock, once, for what was captured."""
    async with opened(terms=Terms(dispute_seconds=5)) as caller:
        paid = (await caller.pay("card_disputed", capture=capture)).body
        if capture == "manual":
            await caller.post(f"/v1/payments/{paid['id']}/capture")
        clock.now += 5
        await until(lambda: _disputed(caller, paid["id"]))
        clock.now += 5
        disputes = (await caller.get(f"/v1/payments/{paid['id']}")).body["disputes"]
        assert [(each["status"], each["amount"]) for each in disputes] == [("open", 1234)]


@pytest.mark.parametrize(("digits", "token"), AMOUNTS.items())
async def test_an_amount_without_a_method_does_what_its_method_does(caller: Caller, digits: int, token: str) -> None:
    """Tokenless, the last two digits of the amount decide; with a method they do not."""
    if OUTCOMES[token].fault is not None:
        by_amount = asyncio.create_task(caller.pay(None, amount=700 + digits))
        await until(lambda: _injected(caller, OUTCOMES[token].fault))
        await caller.control("/faults", method="DELETE")
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await by_amount
    else:
        by_amount_reply = await caller.pay(None, amount=700 + digits)
        by_token = await caller.pay(token, amount=799)
        assert by_amount_reply.status == by_token.status
        assert _status(by_amount_reply.body) == _status(by_token.body)
    assert (await caller.pay("card_ok", amount=700 + digits)).body["status"] == "captured"


async def test_confirming_without_a_known_method_is_refused(caller: Caller) -> None:
    """No method and no telling amount, or a method that no table has: 400, and no money."""
    assert (await caller.pay(None, amount=799)).code == "payment_method_missing"
    assert (await caller.pay("card_of_mine")).code == "no_such_payment_method"
    assert await caller.effects() == []


async def test_the_published_table_is_the_one_that_drives(caller: Caller) -> None:
    """GET /control/tokens has every method, amount, decline and fault."""
    told = (await caller.control("/tokens", method="GET")).body
    assert [row["token"] for row in told["tokens"]] == list(OUTCOMES)
    assert list(told["amounts"].values()) == list(AMOUNTS.values())
    assert list(told["declines"]) == list(DECLINES)
    assert [row["name"] for row in told["faults"]] == list(FAULTS)


def _status(body: dict[str, object]) -> object:
    error = body.get("error")
    return error["code"] if isinstance(error, dict) else body["status"]


async def _has_left(caller: Caller, payment_id: str, status: str) -> bool:
    return bool((await caller.get(f"/v1/payments/{payment_id}")).body["status"] != status)


async def _refund_is(caller: Caller, refund_id: str, status: str) -> bool:
    return bool((await caller.get(f"/v1/refunds/{refund_id}")).body["status"] == status)


async def _disputed(caller: Caller, payment_id: str) -> bool:
    return bool((await caller.get(f"/v1/payments/{payment_id}")).body["disputes"])


async def _injected(caller: Caller, fault: str | None) -> bool:
    return fault in await caller.injected()
