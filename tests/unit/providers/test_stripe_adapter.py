"""The adapter before Stripe's imitation: requests within Stripe's bounds, confirms told apart, and lookups."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from uuid_utils.compat import uuid7

from gateway.domain.commands import PreparedRequest
from gateway.domain.errors import InvalidRequest, Unavailable
from gateway.domain.movements import AttemptStatus, MovementKind
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, Payment
from gateway.domain.providers import (
    Absent,
    Answered,
    Declined,
    Found,
    NotExecuted,
    NotSent,
    OperationReference,
    Unreadable,
)
from providers.secret import Secret
from providers.settings import ProviderAccountSettings
from providers.stripe import reading, requests
from providers.stripe.adapter import StripeAdapter
from providers.stripe.currencies import AMOUNT_MINOR_MAX, CURRENCIES, to_minor, to_stripe
from providers.stripe.form import decode
from providers.stripe.options import StripeOptions
from simulators.stripe.server import running
from simulators.stripe.settings import Account, StripeSettings, Terms
from tests.unit.providers.misbehaving import answer, answering, misbehaving, resetting
from tests.unit.providers.stripe_objects import REFERENCE, charge, created, intent, payment, terms

TIMEOUT_S = 5.0
ACCOUNTS = (Account("acct_main", "planted-key", "planted-signing", ("acct_1", "acct_2")),)
BY_CONTROL = Terms(processing_seconds=None, refund_seconds=None, dispute_seconds=None, search_seconds=0.0)


def adapter_at(base_url: str, **options: str) -> StripeAdapter:
    settings = ProviderAccountSettings("acc-1", "stripe", base_url, Secret("planted-key"), options=options)
    return StripeAdapter(settings, unmapped=lambda kind, value: None)


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """Stripe's imitation."""
    settings = StripeSettings(tmp_path, port=0, accounts=ACCOUNTS, terms=BY_CONTROL)
    async with running(settings) as base_url:
        yield base_url


@pytest.fixture
async def adapter(url: str) -> AsyncIterator[StripeAdapter]:
    """An adapter before it."""
    made = adapter_at(url, multicapture="true", connected_accounts="acct_1")
    yield made
    await made.close()


async def sent(adapter: StripeAdapter, prepared: PreparedRequest) -> Any:
    send_before = asyncio.get_running_loop().time() + TIMEOUT_S
    return await adapter.execute(prepared, send_before=send_before, timeout_s=TIMEOUT_S)


async def made(adapter: StripeAdapter, reference: OperationReference = REFERENCE, **changed: Any) -> Payment:
    """A payment as the engine would have it after its create."""
    outcome = await sent(adapter, adapter.prepare_create(reference, terms(**changed)))
    assert isinstance(outcome, Answered | Declined)
    assert outcome.snapshot is not None
    return payment(
        outcome.snapshot.facts,
        payment_id=reference.payment_id,
        terms=terms(**changed),
        provider_payment_id=outcome.snapshot.provider_payment_id,
    )


def another(number: int, **changed: Any) -> OperationReference:
    told = {"operation_id": f"op_{number}", "command_id": f"cmd_{number}", "idempotency_key": f"key-{number}"}
    return replace(REFERENCE, **{**told, **changed})


# What is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("currency", "ours", "theirs"),
    [("USD", 1999, 1999), ("JPY", 500, 500), ("ISK", 5, 500), ("UGX", 5, 500), ("MGA", 500, 5), ("KWD", 5120, 5120)],
)
def test_an_amount_is_told_in_stripes_units(currency: str, ours: int, theirs: int) -> None:
    """JPY is not multiplied, KWD not divided, ISK counted in hundredths; and back again."""
    assert decode(created(amount_minor=ours, currency=currency).body)["amount"] == str(theirs)
    assert to_minor(theirs, currency) == ours


@pytest.mark.parametrize(("currency", "amount_minor"), [("KWD", 5124), ("MGA", 550), ("USD", AMOUNT_MINOR_MAX + 1)])
def test_an_amount_that_stripe_cannot_take_is_refused_before_it_is_sent(currency: str, amount_minor: int) -> None:
    """Three decimals in tens, no part of a unit, eight digits at most: the caller is told the field."""
    with pytest.raises(InvalidRequest):
        created(amount_minor=amount_minor, currency=currency)


def test_every_currency_goes_there_and_back() -> None:
    """For each currency that we offer, an amount that both sides can count is the same again."""
    assert len(CURRENCIES) > 130
    for currency in CURRENCIES:
        assert to_minor(to_stripe(100_000, currency), currency) == 100_000


def test_what_is_asked_of_a_create() -> None:
    """Manual, in parts, with a way back, a customer of Stripe's and a descriptor without what Stripe refuses."""
    reference = another(1)
    asked = terms(
        capture_method=CaptureMethod.MANUAL,
        customer_reference="cus_NffrFeUfNV2Hib",
        statement_descriptor='O<B>O"L* shop',
        return_url="https://shop.example/back",
        order_reference="order-1",
    )
    body = decode(requests.create(reference, asked, multicapture=True, connected=frozenset()).body)
    wanted = {
        "capture_method": "manual",
        "payment_method_options[card][request_multicapture]": "if_available",
        "customer": "cus_NffrFeUfNV2Hib",
        "statement_descriptor_suffix": "OBOL shop",
        "return_url": "https://shop.example/back",
        "automatic_payment_methods[allow_redirects]": "always",
        "metadata[obol_order]": "order-1",
        "metadata[obol_customer]": "cus_NffrFeUfNV2Hib",
        "metadata[obol_attempt]": "1",
    }
    assert {name: body.get(name) for name in wanted} == wanted


def test_without_a_way_back_nobody_is_sent_away() -> None:
    """No return URL: methods that redirect are not offered; our own name of a customer is no id of Stripe's."""
    body = decode(created(customer_reference="customer 7").body)
    assert body["automatic_payment_methods[allow_redirects]"] == "never"
    assert "customer" not in body
    assert "return_url" not in body


def test_reasons_are_stripes_or_stay_ours() -> None:
    """A reason that Stripe has is told as Stripe's; any other is kept in the metadata alone."""
    for reason, theirs in (("duplicate", "duplicate"), ("requested", "requested_by_customer"), ("broken box", None)):
        body = decode(requests.refund(REFERENCE, payment(), 100, reason).body)
        assert (body.get("reason"), body["metadata[obol_reason]"]) == (theirs, reason)
    assert decode(requests.cancel(REFERENCE, payment(), "abandoned").body)["cancellation_reason"] == "abandoned"
    assert "cancellation_reason" not in decode(requests.cancel(REFERENCE, payment(), "whatever").body)


def test_our_capture_entry_fits_a_metadata_name() -> None:
    """An operation's id of ours is short enough to be a name of Stripe's metadata, which has 40 characters."""
    name = f"{requests.OUR_PREFIX}op_{uuid7().hex}"
    assert len(name) <= requests.METADATA_NAME_CHARACTERS_MAX


@pytest.mark.parametrize("options", [{"multicapture": "yes"}, {"connected_accounts": "acct_1,../x"}, {"colour": "red"}])
def test_an_option_that_cannot_be_right_is_refused_at_the_start(options: dict[str, str]) -> None:
    """A misspelt option would change nothing, and nobody would notice."""
    with pytest.raises(ValueError, match="options"):
        StripeOptions.of(options)


# Confirming ------------------------------------------------------------------------------------------------------


async def test_a_second_confirm_is_told_apart_from_the_first(adapter: StripeAdapter) -> None:
    """Declined, then confirmed with another card: each attempt and the capture have their own operation."""
    declined = await made(adapter, payment_method="pm_card_visa_chargeDeclined")
    prepared = adapter.prepare_confirm(another(2), declined, payment_method="pm_card_visa", return_url="")
    outcome = await sent(adapter, prepared)
    assert isinstance(outcome, Answered)
    told = [(each.ordinal, each.status, each.operation_id) for each in outcome.snapshot.facts.attempts]
    assert told == [(1, AttemptStatus.FAILED, "op_1"), (2, AttemptStatus.SUCCEEDED, "op_2")]
    (capture,) = (each for each in outcome.snapshot.facts.movements if each.kind is MovementKind.CAPTURE)
    assert capture.operation_id == "op_2"


async def test_a_confirm_that_was_never_sent_does_not_fail_by_the_former_error(
    adapter: StripeAdapter, url: str
) -> None:
    """Its references were put and the confirm was lost: what is seen is the first attempt's failure, not its own."""
    declined = await made(adapter, payment_method="pm_card_visa_chargeDeclined")
    prepared = adapter.prepare_confirm(another(2), declined, payment_method="pm_card_visa", return_url="")
    async with aiohttp.ClientSession() as session:
        plan = {"next": [{"fault": "lost_before", "match": "confirm"}]}
        async with session.post(f"{url}/control/faults", json=plan):
            pass
    await sent(adapter, prepared)
    found = await adapter.fetch(declined.provider_payment_id or "", timeout_s=TIMEOUT_S)
    assert isinstance(found, Found)
    assert [each.operation_id for each in found.snapshot.facts.attempts] == ["op_1"]


async def test_a_lost_confirm_after_a_3ds_failure_is_no_failure(adapter: StripeAdapter, url: str) -> None:
    """No charge was ever made: the update before the confirm cleared the error, so nothing is told of the second."""
    way_back: dict[str, Any] = {"return_url": "https://shop.example/back"}
    asked = await made(adapter, payment_method="pm_card_threeDSecure2Required", **way_back)
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/customer/{asked.provider_payment_id}", json={"outcome": "refuse"}):
            pass
        plan = {"next": [{"fault": "lost_before", "match": "confirm"}]}
        async with session.post(f"{url}/control/faults", json=plan):
            pass
    await sent(adapter, adapter.prepare_confirm(another(2), asked, payment_method="pm_card_visa", return_url=""))
    found = await adapter.fetch(asked.provider_payment_id or "", timeout_s=TIMEOUT_S)
    assert isinstance(found, Found)
    assert found.snapshot.facts.attempts == ()


@pytest.mark.parametrize(
    ("fault", "kind"), [("lost_before", NotSent), ("http_500_after", NotSent), ("http_429", NotExecuted)]
)
async def test_a_confirm_whose_references_cannot_be_put_is_not_sent(
    adapter: StripeAdapter, url: str, fault: str, kind: type
) -> None:
    """The update before it fails: nothing of the confirm went out, and the same may be tried again."""
    declined = await made(adapter, payment_method="pm_card_visa_chargeDeclined")
    prepared = adapter.prepare_confirm(another(2), declined, payment_method="pm_card_visa", return_url="")
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/control/faults", json={"next": [{"fault": fault, "match": "update"}]}):
            pass
        assert isinstance(await sent(adapter, prepared), kind)
        async with session.get(f"{url}/control/effects") as answer:
            assert (await answer.json())["data"] == []
    assert isinstance(await sent(adapter, prepared), Answered)


async def test_a_3ds_failure_and_another_card(adapter: StripeAdapter, url: str) -> None:
    """The payer fails 3D Secure, another card follows: two attempts, none mistaken for the other."""
    way_back: dict[str, Any] = {"return_url": "https://shop.example/back"}
    asked = await made(adapter, payment_method="pm_card_threeDSecure2Required", **way_back)
    async with aiohttp.ClientSession() as session:
        place = f"{url}/customer/{asked.provider_payment_id}"
        async with session.post(place, json={"outcome": "refuse"}) as answer:
            assert answer.status == 200
    failed = await adapter.fetch(asked.provider_payment_id or "", timeout_s=TIMEOUT_S)
    assert isinstance(failed, Found)
    known = replace(asked, facts=failed.snapshot.facts)
    outcome = await sent(
        adapter, adapter.prepare_confirm(another(2), known, payment_method="pm_card_visa", return_url="")
    )
    facts = known.facts.merge(outcome.snapshot.facts)
    assert [(each.ordinal, each.status, each.operation_id) for each in facts.attempts] == [
        (1, AttemptStatus.FAILED, "op_1"),
        (2, AttemptStatus.SUCCEEDED, "op_2"),
    ]


async def test_without_a_way_back_the_browser_gets_the_secret(adapter: StripeAdapter) -> None:
    """3D Secure without a return URL: Stripe's library finishes it in the browser."""
    prepared = adapter.prepare_create(REFERENCE, terms(payment_method="pm_card_authenticationRequired"))
    outcome = await sent(adapter, prepared)
    assert outcome.snapshot.next_action.redirect_url == ""
    assert outcome.snapshot.next_action.client_secret.startswith(outcome.snapshot.provider_payment_id)


async def test_a_payment_that_is_only_created_is_no_attempt(adapter: StripeAdapter) -> None:
    """Confirmation left for later: an object, and nothing tried."""
    only = await made(adapter, confirmation_method=ConfirmationMethod.MANUAL, payment_method="")
    assert (only.facts.attempts, only.facts.movements, len(only.facts.objects)) == ((), (), 1)


# Connected accounts ----------------------------------------------------------------------------------------------


async def test_a_payment_of_a_connected_account_is_made_and_found_there(adapter: StripeAdapter) -> None:
    """Stripe-Account on every call; our name of its place has the account, so that anybody can read it again."""
    reference = another(1, payment_id=f"pay_{uuid7().hex}")
    there = await made(adapter, reference, connected_account="acct_1")
    assert there.provider_payment_id is not None
    assert there.provider_payment_id.endswith("@acct_1")
    found = await adapter.lookup(reference.payment_id, timeout_s=TIMEOUT_S)
    assert isinstance(found, Found)
    assert found.snapshot.provider_payment_id == there.provider_payment_id
    bare = there.provider_payment_id.partition("@")[0]
    assert await adapter.fetch(bare, timeout_s=TIMEOUT_S) == Absent(consistent=True)
    refund = adapter.prepare_refund(another(2, payment_id=reference.payment_id), there, amount_minor=100, reason="")
    assert isinstance(await sent(adapter, refund), Answered)


def test_a_connected_account_that_nobody_named_is_refused(url: str) -> None:
    """Its payments could never be looked up, so that their absence would be a lie: refused before anything is sent."""
    with pytest.raises(InvalidRequest):
        adapter_at(url).prepare_create(REFERENCE, terms(connected_account="acct_1"))


# Lookups ---------------------------------------------------------------------------------------------------------


async def test_a_lookup_asks_for_the_time_that_our_id_holds(adapter: StripeAdapter) -> None:
    """A UUIDv7 says when it was made: only what was created around then is looked through."""
    old = f"pay_{(1_600_000_000_000).to_bytes(6).hex()}7{'0' * 19}"
    reference = another(1, payment_id=old)
    await made(adapter, reference)
    # It lies outside the window of its own id, and inside that of one that is new.
    assert await adapter.lookup(old, timeout_s=TIMEOUT_S) == Absent(consistent=True)
    fresh = another(2, payment_id=f"pay_{uuid7().hex}")
    await made(adapter, fresh)
    assert isinstance(await adapter.lookup(fresh.payment_id, timeout_s=TIMEOUT_S), Found)


async def test_too_many_payments_are_no_absence(adapter: StripeAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound of pages the search may find it; what the search does not show is not known."""
    monkeypatch.setattr(reading, "PAGE_MAX", 2)
    monkeypatch.setattr(reading, "LOOKUP_PAGES_MAX", 1)
    for number in range(1, 6):
        await made(adapter, another(number, payment_id=f"pay_{number}"))
    found = await adapter.lookup("pay_1", timeout_s=TIMEOUT_S)
    assert isinstance(found, Found)
    assert found.snapshot.payment_id == "pay_1"
    assert isinstance(await adapter.lookup("pay_9", timeout_s=TIMEOUT_S), Unreadable)


async def test_two_objects_with_one_reference_are_no_answer(adapter: StripeAdapter) -> None:
    """Nobody could act on that."""
    await made(adapter, another(1))
    await made(adapter, another(2))
    assert isinstance(await adapter.lookup("pay_1", timeout_s=TIMEOUT_S), Unreadable)


async def test_more_refunds_than_a_charge_shows_are_read(adapter: StripeAdapter) -> None:
    """A charge shows ten of its refunds; the rest is asked for."""
    paid = await made(adapter)
    for number in range(2, 14):
        prepared = adapter.prepare_refund(another(number), paid, amount_minor=10, reason="")
        assert isinstance(await sent(adapter, prepared), Answered)
    found = await adapter.fetch(paid.provider_payment_id or "", timeout_s=TIMEOUT_S)
    assert isinstance(found, Found)
    refunds = [each for each in found.snapshot.facts.movements if each.kind is MovementKind.REFUND]
    assert {each.operation_id for each in refunds} == {f"op_{number}" for number in range(2, 14)}
    page, _ = await adapter.list_payments(
        created_from_us=0, created_before_us=10**16, page_token="", limit=10, timeout_s=TIMEOUT_S
    )
    assert page[0].facts.movements == found.snapshot.facts.movements


@pytest.mark.parametrize(
    ("charges", "found"),
    [
        ([charge(id="ch_2"), charge()], ["ch_1"]),
        ([charge()], ["ch_1"]),
        ([charge(id="ch_2")], None),
        ([], None),
    ],
)
async def test_charges_belong_to_the_state_that_was_read(charges: list[Any], found: list[str] | None) -> None:
    """What is younger than the PaymentIntent as it was read is left out; a list without its charge is not believed."""
    told = (intent(), {"data": charges, "has_more": False})
    async with misbehaving(answering(*[answer(json.dumps(each).encode()) for each in told])) as server:
        made_there = adapter_at(server.base_url)
        read = await made_there.fetch("pi_1", timeout_s=TIMEOUT_S)
        await made_there.close()
    if found is None:
        assert isinstance(read, Unreadable)
    else:
        assert isinstance(read, Found)
        assert [each.provider_movement_id for each in read.snapshot.facts.movements] == found


async def test_a_list_without_an_answer_is_an_error() -> None:
    """Events that cannot be listed are not "none"."""
    async with misbehaving(resetting(read_first=True)) as server:
        made_there = adapter_at(server.base_url)
        with pytest.raises(Unavailable):
            await made_there.list_events(after_event_id="", limit=10, timeout_s=TIMEOUT_S)
        await made_there.close()
