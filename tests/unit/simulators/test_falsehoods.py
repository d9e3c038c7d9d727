"""Wrong books, on demand: denied, doubled or falsified, without an event, an effect or a loss at a restart."""

from __future__ import annotations

from tests.unit.simulators.rig import Caller, Opened


async def state(caller: Caller) -> dict[str, int]:
    """How many events each account has."""
    shown = await caller.control("/state", method="GET")
    return dict(shown.body["books"]["events"])


async def test_a_hidden_payment_is_denied_everywhere_and_outlives_a_restart(opened: Opened) -> None:
    """Not by id, not by reference, not in a list, not to a verb; shown again it is what it was."""
    async with opened() as caller:
        made = (await caller.pay(metadata={"obol_payment": "pay_1"})).body
        await caller.control(f"/payments/{made['id']}/hide")
    async with opened() as caller:
        assert (await caller.get(f"/v1/payments/{made['id']}")).code == "no_such_payment"
        assert (await caller.get("/v1/payments?reference=pay_1")).body["data"] == []
        assert (await caller.get("/v1/payments")).body["data"] == []
        assert (await caller.post(f"/v1/payments/{made['id']}/refunds", {"amount": 1})).code == "no_such_payment"
        await caller.control(f"/payments/{made['id']}/hide", {"hidden": False})
        assert (await caller.get(f"/v1/payments/{made['id']}")).body["captures"] == made["captures"]


async def test_a_duplicate_is_a_second_object_with_the_same_metadata(caller: Caller) -> None:
    """Ids of its own, also of its movements; both are found by the reference."""
    made = (await caller.pay(metadata={"obol_payment": "pay_1"})).body
    copy = (await caller.control(f"/payments/{made['id']}/duplicate")).body
    assert copy["id"] != made["id"]
    assert copy["captures"][0]["id"] != made["captures"][0]["id"]
    assert copy["metadata"] == made["metadata"]
    assert len((await caller.get("/v1/payments?reference=pay_1")).body["data"]) == 2


async def test_falsified_books_tell_otherwise_and_nobody_is_told(caller: Caller) -> None:
    """Another amount, another currency, another capture, none at all: no event and no effect comes of it."""
    made = (await caller.pay()).body
    before = (await state(caller), len(await caller.effects()))
    told = (await caller.control(f"/payments/{made['id']}/falsify", {"amount": 1, "currency": "USD"})).body
    assert (told["amount"], told["currency"]) == (1, "USD")
    told = (await caller.control(f"/payments/{made['id']}/falsify", {"captured": 9})).body
    assert [each["amount"] for each in told["captures"]] == [9]
    told = (await caller.control(f"/payments/{made['id']}/falsify", {"forget": "captures"})).body
    assert told["captures"] == []
    assert (await state(caller), len(await caller.effects())) == before
    assert (await caller.control(f"/payments/{made['id']}/falsify", {"forget": "all"})).code == "invalid_request"
