"""What a consumer's word is worth: once for each observation, and always known how far it came."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from gateway.domain.storage import Consumer, Decision, DecisionOutcome, Store
from store import consumers
from tests.store import making
from tests.store.acting import captured
from tests.store.looking import census, value

D = DecisionOutcome


async def observations(store: Store, count: int) -> list[str]:
    """Ids of `count` observations in the order of the log."""
    for _ in range(count):
        await captured(store)
        await store.number_observations()
    return [o.observation_id for o in await store.read_observations(making.TENANT, after_sequence=0, limit=1000)]


async def stand(store: Store) -> Consumer:
    """Where the consumer `billing` stands."""
    consumer = await store.get_consumer(making.TENANT, "billing")
    assert consumer is not None
    return consumer


async def say(store: Store, *decisions: Decision) -> list[DecisionOutcome]:
    """What becomes of the words of `billing`."""
    return list(await store.decide(making.CALLER, "billing", decisions, making.audit()))


async def test_the_first_word_counts(store: Store, url: str) -> None:
    """A word again is REPEATED, the other word is a CONFLICT that changes nothing, an unknown id is MISSING."""
    one, two = await observations(store, 2)
    first = await say(store, Decision(one, True), Decision(two, False, "wrong amount"), Decision("obs_none", True))
    assert first == [D.RECORDED, D.RECORDED, D.MISSING]
    assert await say(store, Decision(one, True), Decision(two, True), Decision(two, False)) == [
        D.REPEATED,
        D.CONFLICT,
        D.REPEATED,
    ]
    consumer = await stand(store)
    assert (consumer.accepted, consumer.rejected, consumer.undecided) == (1, 1, 0)
    assert (await census(url))["decisions"] == 2
    assert await value(url, "SELECT reason FROM decisions WHERE reason <> ''") == "wrong amount"


async def test_one_word_of_a_batch_counts_too(store: Store) -> None:
    """Within one call the first word on an observation stands."""
    (one,) = await observations(store, 1)
    assert await say(store, Decision(one, True), Decision(one, False), Decision(one, True)) == [
        D.RECORDED,
        D.CONFLICT,
        D.REPEATED,
    ]


async def test_words_at_once_come_in_turn(store: Store, beside: Store) -> None:
    """Of twenty words on one observation one is recorded, and the counts agree."""
    (one,) = await observations(store, 1)
    await store.ensure_consumer(making.TENANT, "billing")
    stores = (store, beside)
    said = await asyncio.gather(*(say(stores[i % 2], Decision(one, i % 4 < 2)) for i in range(20)))
    counted = Counter(outcome for outcomes in said for outcome in outcomes)
    assert (counted[D.RECORDED], counted[D.REPEATED], counted[D.CONFLICT]) == (1, 9, 10)
    consumer = await stand(store)
    assert consumer.accepted + consumer.rejected == 1


async def test_decided_through_stops_before_the_first_gap(store: Store) -> None:
    """It is the last sequence before the first undecided, and moves on when the gap closes."""
    ids = await observations(store, 6)
    await say(store, Decision(ids[0], True), Decision(ids[1], True), Decision(ids[3], True), Decision(ids[5], True))
    consumer = await stand(store)
    assert (consumer.decided_through, consumer.undecided) == (2, 2)
    assert consumer.oldest_undecided_age_s > 0
    await say(store, Decision(ids[2], False, "late"))
    assert (await stand(store)).decided_through == 4
    await say(store, Decision(ids[4], True))
    consumer = await stand(store)
    assert (consumer.decided_through, consumer.undecided, consumer.oldest_undecided_age_s) == (6, 0, 0.0)


async def test_a_consumer_begins_with_nothing_decided(store: Store) -> None:
    """It is created by name or by its first word; an unknown one is None, and another tenant's too."""
    assert await store.get_consumer(making.TENANT, "billing") is None
    await observations(store, 3)
    await store.ensure_consumer(making.TENANT, "billing")
    await store.ensure_consumer(making.TENANT, "billing")
    consumer = await stand(store)
    assert (consumer.accepted, consumer.rejected, consumer.undecided, consumer.decided_through) == (0, 0, 3, 0)
    assert await store.get_consumer("tenant-b", "billing") is None


async def test_another_tenants_observation_is_missing(store: Store) -> None:
    """A caller decides on its own tenant's observations only."""
    (one,) = await observations(store, 1)
    foreign = making.CALLER.__class__("tenant-b", "o", "billing", "c")
    assert list(await store.decide(foreign, "billing", [Decision(one, True)], making.audit())) == [D.MISSING]


async def test_undecided_is_counted_up_to_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that fell far behind costs no full count."""
    monkeypatch.setattr("store.consumers.UNDECIDED_MAX", 2)
    await observations(store, 4)
    await store.ensure_consumer(making.TENANT, "billing")
    assert (await stand(store)).undecided == 2


async def test_what_stays_undecided_past_an_age_is_counted_over_all_tenants(store: Store) -> None:
    """Each consumer's own, of whatever tenant; not what it decided, nor what is young, and nobody's who keeps up."""
    assert await store.undecided(older_than_s=0) == 0
    one, two, three = await observations(store, 3)
    assert await store.undecided(older_than_s=0) == 0  # nobody has said that he listens
    await say(store, Decision(two, True))
    await store.decide(making.CALLER, "ledger", [Decision(each, True) for each in (one, two, three)], making.audit())
    assert await store.undecided(older_than_s=0) == 2
    assert await store.undecided(older_than_s=3_600) == 0
    other = replace(making.CALLER, tenant_id="tenant-b")
    claim = making.create_claim(making.payment(other), caller=other)
    await store.settle(making.settlement_of(claim, await store.claim(claim)))
    await store.number_observations()
    await store.ensure_consumer(other.tenant_id, "billing")
    assert await store.undecided(older_than_s=0) == 3
    await say(store, Decision(one, False, "no"), Decision(three, True))
    assert await store.undecided(older_than_s=0) == 1


async def test_a_count_of_the_undecided_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind an entry that stays undecided, so many more are looked at and no more."""
    monkeypatch.setattr(consumers, "LOOKED_AT_MAX", 2)
    await observations(store, 4)
    await store.ensure_consumer(making.TENANT, "billing")
    await store.ensure_consumer(making.TENANT, "ledger")
    assert await store.undecided(older_than_s=0) == 4
    monkeypatch.setattr(consumers, "BEHIND_MAX", 1)
    assert await store.undecided(older_than_s=0) == 2


async def test_who_keeps_up_takes_no_place_among_those_who_are_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many consumers have decided everything, one that has not is found."""
    monkeypatch.setattr(consumers, "BEHIND_MAX", 1)
    (one,) = await observations(store, 1)
    for name in ("archive", "zeta"):
        await store.decide(making.CALLER, name, [Decision(one, True)], making.audit())
    await store.ensure_consumer(making.TENANT, "billing")
    assert await store.undecided(older_than_s=0) == 1
