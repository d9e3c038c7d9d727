"""Stripe's list of payments before its imitation: every account that payments may be of, and none left out silently."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.domain.errors import InvalidRequest
from gateway.domain.providers import Answered, Found, Snapshot
from providers.stripe.adapter import StripeAdapter
from simulators.stripe.server import running
from simulators.stripe.settings import StripeSettings
from tests.unit.providers.test_stripe_adapter import ACCOUNTS, BY_CONTROL, TIMEOUT_S, adapter_at, another, made, sent


@asynccontextmanager
async def acting_for(folder: Path, connected: str) -> AsyncIterator[StripeAdapter]:
    """An adapter that acts for `connected`, before the imitation."""
    async with running(StripeSettings(folder, port=0, accounts=ACCOUNTS, terms=BY_CONTROL)) as base_url:
        adapter = adapter_at(base_url, connected_accounts=connected)
        try:
            yield adapter
        finally:
            await adapter.close()


async def test_a_list_goes_through_every_account_that_payments_may_be_of(tmp_path: Path) -> None:
    """The platform's and each connected account's, page by page, once each, by the place where a look finds them."""
    async with acting_for(tmp_path, "acct_2,acct_1,acct_2") as adapter:
        there, expected = ["", "", "acct_2", "acct_2", "acct_2"], list[str]()
        for number, account in enumerate(there, start=1):
            own = another(number, payment_id=f"pay_{number}")
            paid = await made(adapter, own, connected_account=account)
            expected.append(paid.provider_payment_id or "")
            if number == 4:
                # More of it than the list itself shows has to be asked for in its account.
                for refund_number in range(20, 32):
                    given = another(refund_number, payment_id=own.payment_id)
                    prepared = adapter.prepare_refund(given, paid, amount_minor=10, reason="")
                    assert isinstance(await sent(adapter, prepared), Answered)
        listed, token, pages = list[Snapshot](), "", 0
        while token or not pages:
            window = {"created_from_us": 0, "created_before_us": 10**16}
            page, token = await adapter.list_payments(**window, page_token=token, limit=2, timeout_s=TIMEOUT_S)
            listed, pages = [*listed, *page], pages + 1
            assert pages < 6
        assert sorted(each.provider_payment_id for each in listed) == sorted(expected)
        for each in listed:
            found = await adapter.fetch(each.provider_payment_id, timeout_s=TIMEOUT_S)
            assert isinstance(found, Found)
            assert found.snapshot.facts == each.facts


async def test_a_page_of_an_account_that_is_not_named_any_more_is_no_empty_page(tmp_path: Path) -> None:
    """A walk that could not go on must not look as if it had come to its end."""
    async with acting_for(tmp_path, "acct_1") as adapter:
        with pytest.raises(InvalidRequest):
            await adapter.list_payments(
                created_from_us=0, created_before_us=10**16, page_token="@acct_2", limit=2, timeout_s=TIMEOUT_S
            )
