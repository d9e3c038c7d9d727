"""Looking: by id, by reference, by list; absence is told only by the provider itself."""

import pytest

from gateway.domain.errors import InvalidRequest, Unavailable
from gateway.domain.providers import Absent, Found, ListsPayments, Unreadable
from providers.http import WireLimits
from providers.secret import Secret
from tests.conformance.rig import TIMEOUT_S, Rig

FAR_US = 10**16


async def test_a_payment_is_found_by_its_id(rig: Rig) -> None:
    """The provider's id gives the object as it was answered."""
    _, snapshot = await rig.created()
    found = await rig.adapter.fetch(snapshot.provider_payment_id, timeout_s=TIMEOUT_S)
    assert isinstance(found, Found)
    assert found.snapshot == snapshot


async def test_a_payment_is_found_by_our_reference(rig: Rig) -> None:
    """When the answer was lost, our own id gives the same object."""
    rig.find_by_reference()
    reference, snapshot = await rig.created()
    found = await rig.adapter.lookup(reference.payment_id, timeout_s=TIMEOUT_S)
    assert isinstance(found, Found)
    assert found.snapshot == snapshot


async def test_a_recorded_payment_tells_its_order_and_its_create(rig: Rig) -> None:
    """What a database was restored without holds its order by what the provider's records say (ADR 0009)."""
    order = "order/7: \u00fc"
    reference, snapshot = await rig.created(order_reference=order)
    found = await rig.adapter.fetch(snapshot.provider_payment_id, timeout_s=TIMEOUT_S)
    assert isinstance(found, Found)
    assert found.snapshot.order_reference == order
    tried = {each.operation_id for each in found.snapshot.facts.attempts}
    assert reference.operation_id in {found.snapshot.operation_id, *tried}
    if isinstance(rig.adapter, ListsPayments) and getattr(rig.driver, "fresh", True):
        page, _ = await rig.adapter.list_payments(
            created_from_us=0, created_before_us=FAR_US, page_token="", limit=100, timeout_s=TIMEOUT_S
        )
        listed = {each.provider_payment_id: each for each in page}
        assert listed[snapshot.provider_payment_id].order_reference == order


@pytest.mark.parametrize("unknown", ["spay_nowhere", "../events", "a/b?c=d#e", "ü", ""])
async def test_what_is_not_there_is_absent_or_unreadable(rig: Rig, unknown: str) -> None:
    """An unknown id is absent; an odd one reads no other object."""
    assert isinstance(await rig.adapter.fetch(unknown, timeout_s=TIMEOUT_S), Absent | Unreadable)
    assert isinstance(await rig.adapter.lookup(unknown, timeout_s=TIMEOUT_S), Absent | Unreadable)


async def test_absence_is_as_consistent_as_declared(rig: Rig) -> None:
    """Absence says whether it can be built on."""
    declared = rig.adapter.capabilities.absence_is_consistent
    assert await rig.adapter.fetch("spay_nowhere", timeout_s=TIMEOUT_S) == Absent(consistent=declared)
    assert await rig.adapter.lookup("pay_nowhere", timeout_s=TIMEOUT_S) == Absent(consistent=declared)


async def test_a_lookup_without_leave_is_no_absence(rig: Rig) -> None:
    """A refused credential, a dead address, no time: nothing is known, and nothing is absent."""
    _, snapshot = await rig.created()
    stranger = rig.driver.adapter(api_key=Secret("of-somebody-else"))
    try:
        assert isinstance(await stranger.fetch(snapshot.provider_payment_id, timeout_s=TIMEOUT_S), Unreadable)
        found = await stranger.lookup(snapshot.payment_id, timeout_s=TIMEOUT_S)
        assert isinstance(found, Unreadable) or (not rig.finds and found == Absent(consistent=False))
        assert isinstance(await rig.adapter.fetch(snapshot.provider_payment_id, timeout_s=0.0), Unreadable)
    finally:
        await stranger.close()


async def test_a_lookup_with_an_oversized_answer_is_unreadable(rig: Rig) -> None:
    """An answer past the bound is no answer."""
    _, snapshot = await rig.created()
    narrow = rig.driver.adapter(wire=WireLimits(body_bytes_max=64))
    try:
        assert isinstance(await narrow.fetch(snapshot.provider_payment_id, timeout_s=TIMEOUT_S), Unreadable)
    finally:
        await narrow.close()


async def test_a_closed_adapter_answers_with_values(rig: Rig) -> None:
    """After close, reading raises nothing."""
    await rig.adapter.close()
    assert isinstance(await rig.adapter.fetch("spay_1", timeout_s=TIMEOUT_S), Unreadable)
    found = await rig.adapter.lookup("pay_1", timeout_s=TIMEOUT_S)
    assert isinstance(found, Unreadable) or (not rig.finds and found == Absent(consistent=False))


async def test_events_are_listed_in_order_from_any_of_them(rig: Rig) -> None:
    """The list goes on after any event, with none left out, and each is one that we can read."""
    lists, reads = rig.events, rig.reads
    rig.fresh()
    snapshots = [(await rig.created())[1] for _ in range(3)]
    every = await lists.list_events(after_event_id="", limit=100, timeout_s=TIMEOUT_S)
    hints = [reads.interpret(each.body, {}) for each in every]
    # A provider may tell of one payment more than once; the first word on each comes in order.
    told = dict.fromkeys(hint.provider_payment_id for hint in hints)
    assert list(told) == [each.provider_payment_id for each in snapshots]
    assert [hint.event_id for hint in hints] == [each.event_id for each in every]
    assert all(hint.known_type for hint in hints)
    stepped: list[str] = []
    while page := await lists.list_events(after_event_id=stepped[-1] if stepped else "", limit=1, timeout_s=TIMEOUT_S):
        stepped += [each.event_id for each in page]
    assert stepped == [each.event_id for each in every]


async def test_an_event_that_is_not_kept_is_no_empty_list(rig: Rig) -> None:
    """A cursor that the provider does not know is an error: missed events must not look like none."""
    lists = rig.events
    with pytest.raises((InvalidRequest, Unavailable)):
        await lists.list_events(after_event_id="sevt_nowhere", limit=10, timeout_s=TIMEOUT_S)


async def test_payments_are_listed_in_pages(rig: Rig) -> None:
    """Page by page every payment of the window comes once, and the last page says so."""
    lists = rig.payments
    rig.fresh()
    made = [(await rig.created())[1].provider_payment_id for _ in range(5)]
    listed: list[str] = []
    token = ""
    for _ in range(10):
        page, token = await lists.list_payments(
            created_from_us=0, created_before_us=FAR_US, page_token=token, limit=2, timeout_s=TIMEOUT_S
        )
        listed += [each.provider_payment_id for each in page]
        if not token:
            break
    # Once each; in which order is the provider's own.
    assert sorted(listed) == sorted(made)
    none, token = await lists.list_payments(
        created_from_us=FAR_US - 1, created_before_us=FAR_US, page_token="", limit=2, timeout_s=TIMEOUT_S
    )
    assert (list(none), token) == ([], "")


async def test_a_list_that_fails_is_no_empty_list(rig: Rig) -> None:
    """A list has no value for a failure: it raises."""
    lists = rig.payments
    await rig.adapter.close()
    with pytest.raises(Unavailable):
        await lists.list_payments(
            created_from_us=0, created_before_us=FAR_US, page_token="", limit=2, timeout_s=TIMEOUT_S
        )
