"""Lists: newest first, page by page, filtered, and never another tenant's."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.commands import Caller, CommandKind
from gateway.domain.payments import Payment
from gateway.domain.states import PaymentState
from gateway.domain.storage import Decision, PaymentFilter, Store
from store.listing import SKEW_S_MAX
from tests.store import making
from tests.store.acting import captured, claimed

OTHER = Caller("tenant-b", "organization-1", "orders", "c")
ANY = PaymentFilter()


async def listed(store: Store, wanted: PaymentFilter = ANY, *, before: str = "", limit: int = 100) -> list[str]:
    """Ids of the tenant's payments."""
    found = await store.list_payments(making.TENANT, wanted, before_payment_id=before, limit=limit)
    return [payment.payment_id for payment in found]


async def test_payments_are_listed_newest_first_with_their_facts(store: Store) -> None:
    """Pages follow each other without gap or double, and each payment is as `get_payment` gives it."""
    made = [await captured(store) for _ in range(5)]
    (claim, _) = await claimed(store)
    made.append(claim.payment or made[0])
    newest_first = [payment.payment_id for payment in reversed(made)]
    first = await listed(store, limit=4)
    assert first + await listed(store, before=first[-1], limit=4) == newest_first
    found = await store.list_payments(making.TENANT, ANY, before_payment_id="", limit=10)
    assert list(found) == list(reversed(made))
    assert found[1] == await store.get_payment(making.TENANT, newest_first[1])


@pytest.mark.parametrize(
    ("terms", "wanted"),
    [
        ({"order_reference": "order-9"}, PaymentFilter(order_reference="order-9")),
        ({"customer_reference": "customer-9"}, PaymentFilter(customer_reference="customer-9")),
        ({}, PaymentFilter(states=(PaymentState.CAPTURED, PaymentState.REFUNDED))),
        ({}, PaymentFilter(account_id="account-9")),
        ({}, PaymentFilter(created_from_us=making.CREATED_US + 5)),
        (
            {"order_reference": "order-9"},
            PaymentFilter(
                order_reference="order-9", states=(PaymentState.CAPTURED,), created_from_us=making.CREATED_US + 9
            ),
        ),
    ],
)
async def test_a_filter_finds_what_it_names(store: Store, terms: dict[str, Any], wanted: PaymentFilter) -> None:
    """Each field restricts, alone and together."""
    await claimed(store)
    named = making.payment(terms=making.terms(**terms), account_id="account-9", created_time_us=making.CREATED_US + 9)
    claim = making.create_claim(named)
    await store.settle(making.settlement_of(claim, await store.claim(claim)))
    assert await listed(store, wanted) == [named.payment_id]
    assert await listed(store, replace(wanted, account_id="nobody")) == []


async def test_the_end_of_a_time_range_is_exclusive(store: Store) -> None:
    """From is inclusive, before is not."""
    (claim, _) = await claimed(store)
    at = making.CREATED_US
    assert await listed(store, PaymentFilter(created_from_us=at, created_before_us=at + 1)) == [
        claim.command.payment_id
    ]
    assert await listed(store, PaymentFilter(created_before_us=at)) == []


async def test_a_time_range_is_exact_page_by_page(store: Store) -> None:
    """Payments from minutes apart: every window holds what was created in it and nothing else, in pages of two."""
    minute_us, at = 60_000_000, making.CREATED_US
    made = [await created_at(store, at + minute_us * number // 2) for number in range(9)]
    for since, until in ((None, at + 1), (at, None), (at + minute_us, at + 3 * minute_us), (at + 1, at + 2), (at, at)):
        wanted = PaymentFilter(created_from_us=since, created_before_us=until, states=(PaymentState.CREATED,))
        found, page = [], await listed(store, wanted, limit=2)
        while page:
            found += page
            page = await listed(store, wanted, before=page[-1], limit=2)
        inside = [
            one.payment_id
            for one in reversed(made)
            if (since is None or one.created_time_us >= since) and (until is None or one.created_time_us < until)
        ]
        assert found == inside


async def test_a_created_time_that_differs_from_its_id_is_found(store: Store) -> None:
    """The id and the created time are two looks at a clock: up to SKEW_S_MAX apart either way."""
    at = making.CREATED_US
    for skew_us in (-SKEW_S_MAX * 1_000_000, SKEW_S_MAX * 1_000_000):
        of = making.payment(payment_id=making.payment_id(at + skew_us))
        await store.claim(making.create_claim(of))
    assert len(await listed(store, PaymentFilter(created_from_us=at, created_before_us=at + 1))) == 2


async def test_pages_of_several_states_follow_each_other(store: Store) -> None:
    """Newest first across the states, whichever state each payment is in, without gap or double."""
    made: list[str] = []
    for number in range(9):
        if number % 3:
            made.append((await captured(store)).payment_id)
        else:
            made.append((await claimed(store))[0].command.payment_id)
    wanted = PaymentFilter(states=(PaymentState.CAPTURED, PaymentState.CREATED, PaymentState.FAILED))
    found, page = [], await listed(store, wanted, limit=2)
    while page:
        found += page
        page = await listed(store, wanted, before=page[-1], limit=2)
    assert found == list(reversed(made))


async def created_at(store: Store, created_time_us: int) -> Payment:
    """A payment that is claimed and not settled."""
    of = making.payment(created_time_us=created_time_us)
    await store.claim(making.create_claim(of))
    return of


async def test_a_payment_is_found_by_its_references(store: Store) -> None:
    """By order, newest first and two at most; by the provider's id; by nothing, nothing."""
    made = [await captured(store, order_reference="order-1") for _ in range(3)]
    by_order = await store.find_payments(making.TENANT, order_reference="order-1")
    assert list(by_order) == [made[2].payment_id, made[1].payment_id]
    reference = made[0].provider_payment_id or ""
    by_provider = await store.find_payments(making.TENANT, account_id=making.ACCOUNT, provider_payment_id=reference)
    assert list(by_provider) == [made[0].payment_id]
    assert list(await store.find_payments(making.TENANT, account_id="x", provider_payment_id=reference)) == []
    assert list(await store.find_payments(making.TENANT)) == []


async def test_refunds_are_listed_newest_first(store: Store) -> None:
    """Of one payment or of the tenant, page by page."""
    payments = [await captured(store) for _ in range(2)]
    made = []
    for payment in (payments[0], payments[1], payments[0]):
        claim = making.claim_on(payment, CommandKind.REFUND, amount_minor=5)
        await store.claim(claim)
        made.append(claim.refund)
    everything = await store.list_refunds(making.TENANT, "", before_refund_id="", limit=10)
    assert list(everything) == list(reversed(made))
    own = await store.list_refunds(making.TENANT, payments[0].payment_id, before_refund_id="", limit=10)
    assert list(own) == [made[2], made[0]]
    rest = await store.list_refunds(making.TENANT, "", before_refund_id=everything[0].refund_id, limit=1)
    assert list(rest) == [made[1]]


async def a_lived_payment(store: Store, caller: Caller) -> tuple[Payment, str, str, str]:
    """A tenant's payment with a refund, an observation and a key: (payment, refund, observation, key)."""
    terms = making.terms(order_reference="order-1", customer_reference="customer-1")
    claim = making.create_claim(making.payment(caller, terms=terms), caller=caller)
    settlement = making.settlement_of(claim, await store.claim(claim))
    await store.settle(settlement)
    refund = making.claim_on(settlement.payment, CommandKind.REFUND, amount_minor=5)
    await store.claim(refund)
    await store.number_observations()
    return (
        settlement.payment,
        refund.refund.refund_id if refund.refund else "",
        settlement.observations[0].observation_id,
        claim.command.idempotency_key,
    )


async def test_every_read_is_the_tenants_own(store: Store) -> None:
    """With another tenant's ids in hand, a tenant reads nothing of it, whatever it asks for."""
    payment, refund_id, observation_id, key = await a_lived_payment(store, making.CALLER)
    provider_id = payment.provider_payment_id or ""

    async def everything(tenant: str) -> dict[str, Any]:
        return {
            "get_payment": await store.get_payment(tenant, payment.payment_id),
            "load": await store.load(tenant, payment.payment_id),
            "find_command": await store.find_command(tenant, "CreatePayment", key),
            "list_payments": await store.list_payments(tenant, ANY, before_payment_id="", limit=9),
            "find by order": await store.find_payments(tenant, order_reference="order-1"),
            "find by provider": await store.find_payments(
                tenant, account_id=making.ACCOUNT, provider_payment_id=provider_id
            ),
            "get_refund": await store.get_refund(tenant, refund_id),
            "list_refunds": await store.list_refunds(tenant, "", before_refund_id="", limit=9),
            "list of payment": await store.list_refunds(tenant, payment.payment_id, before_refund_id="", limit=9),
            "history": await store.history(tenant, payment.payment_id, after_version=0, limit=9),
            "read": await store.read_observations(tenant, after_sequence=0, limit=9),
            "read of payment": await store.read_observations(
                tenant, after_sequence=0, limit=9, payment_id=payment.payment_id
            ),
            "get_observation": await store.get_observation(tenant, observation_id),
        }

    assert all((await everything(making.TENANT)).values())
    assert not any((await everything(OTHER.tenant_id)).values())
    said = await store.decide(OTHER, "billing", [Decision(observation_id, True)], making.audit(caller=OTHER))
    assert [outcome.value for outcome in said] == ["MISSING"]
