"""A key has one answer, and what it asked for happens once."""

from __future__ import annotations

import asyncio

import pytest

from simulators.sandbox.idempotency import Answer, Keys, StoredAnswer
from simulators.sandbox.refusals import Refusal
from simulators.sandbox.settings import Bounds
from tests.unit.simulators.rig import Caller, Clock, Opened, until


async def test_a_repeated_request_gets_the_first_answer_and_moves_no_money(caller: Caller) -> None:
    """Same key and same request: the stored answer, marked, and one effect."""
    first = await caller.pay(key="once")
    again = await caller.pay(key="once")
    assert (again.status, again.body, first.replayed, again.replayed) == (200, first.body, False, True)
    assert len(await caller.effects()) == 1


async def test_a_decline_is_replayed_too(caller: Caller) -> None:
    """A 402 is an answer of the books: it is stored, and the attempt is not made again."""
    first = await caller.pay("card_declined", key="once")
    again = await caller.pay("card_declined", key="once")
    assert (again.status, again.body, again.replayed) == (402, first.body, True)
    assert again.body["error"]["payment"]["attempt"] == 1


async def test_a_refusal_of_the_books_stays_refused(caller: Caller) -> None:
    """A capture refused once is refused for its key, even when it would succeed by now."""
    made = await caller.post("/v1/payments", {"amount": 100, "currency": "EUR", "capture": "manual"})
    path = f"/v1/payments/{made.body['id']}"
    first = await caller.post(f"{path}/capture", key="early")
    await caller.post(f"{path}/confirm", {"payment_method": "card_ok"})
    again = await caller.post(f"{path}/capture", key="early")
    assert (first.code, again.code, again.replayed) == ("payment_not_capturable", "payment_not_capturable", True)


async def test_an_invalid_request_leaves_its_key_free(caller: Caller) -> None:
    """A validation error is not stored: the request can be mended under the same key."""
    assert (await caller.pay(key="mended", amount=-1)).status == 400
    assert (await caller.pay(key="mended")).status == 200


async def test_a_key_for_another_request_is_refused(caller: Caller) -> None:
    """Same key with another body or another path: 422, and nothing happens."""
    first = await caller.pay(key="once")
    assert (await caller.pay(key="once", amount=99)).code == "idempotency_key_reused"
    elsewhere = await caller.post(f"/v1/payments/{first.body['id']}/refunds", key="once")
    assert (elsewhere.status, elsewhere.code) == (422, "idempotency_key_reused")
    assert len(await caller.effects()) == 1


async def test_a_key_in_progress_is_refused_until_it_is_answered(caller: Caller) -> None:
    """While the first request runs, the second gets 409; afterwards the stored answer."""
    await caller.control("/faults", {"next": [{"fault": "stall"}]})
    first = asyncio.create_task(caller.pay(key="slow"))
    await until(lambda: _stalled(caller))
    busy = await caller.pay(key="slow")
    assert (busy.status, busy.code) == (409, "idempotency_in_progress")
    await caller.control("/faults", method="DELETE")
    assert (await first).status == 200
    assert (await caller.pay(key="slow")).replayed
    assert len(await caller.effects()) == 1


async def test_keys_of_two_accounts_do_not_meet(opened: Opened, caller: Caller) -> None:
    """The same key under another account is another key."""
    await caller.pay(key="shared")
    caller.api_key = "sandbox-key-other"
    other = await caller.pay(key="shared")
    assert (other.status, other.replayed, other.body["account"]) == (200, False, "acct_other")


async def test_a_key_is_forgotten_when_its_window_ends(opened: Opened, clock: Clock) -> None:
    """Within the window the answer is replayed; after it the key is new."""
    async with opened(idempotency_seconds=100) as caller:
        await caller.pay(key="old")
        clock.now += 99
        assert (await caller.pay(key="old")).replayed
        clock.now += 1
        assert not (await caller.pay(key="old")).replayed
        assert len(await caller.effects()) == 2


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_post_needs_a_key_within_bounds(caller: Caller, key: str) -> None:
    """No key or one of more than 255 characters: 400, and nothing happens."""
    refused = await caller.pay(key=key)
    assert (refused.status, refused.body["error"]["param"]) == (400, "Idempotency-Key")
    assert await caller.effects() == []


async def test_a_full_store_refuses_instead_of_forgetting(opened: Opened) -> None:
    """Past its bound the store refuses new keys with 503 and still replays the old ones."""
    async with opened(bounds=Bounds(keys_max=1)) as caller:
        await caller.pay(key="first")
        refused = await caller.pay(key="second")
        assert (refused.status, refused.code) == (503, "keys_full")
        assert (await caller.pay(key="first")).replayed


def test_a_claim_that_was_released_can_be_made_again() -> None:
    """A key whose request was not answered by the books is free; one that was is not."""
    keys = Keys(window_seconds=10, keys_max=10)
    assert keys.claim("a", "k", "one", 0.0) is None
    with pytest.raises(Refusal, match="still running"):
        keys.claim("a", "k", "one", 0.0)
    keys.release("a", "k")
    assert keys.claim("a", "k", "two", 0.0) is None
    keys.store(StoredAnswer("a", "k", "two", Answer(200, "{}"), 0.0))
    keys.release("a", "k")
    assert keys.claim("a", "k", "two", 9.0) == Answer(200, "{}")


async def _stalled(caller: Caller) -> bool:
    return (await caller.injected()).get("stall") == 1
