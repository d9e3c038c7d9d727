"""Reading payments, refunds and timelines, page by page."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from gateway.app.commands import no_payment
from gateway.app.requests import check_id
from gateway.app.tokens import page_token_of, position_of
from gateway.domain.commands import Caller
from gateway.domain.errors import InvalidRequest, NotFound, Precondition, Reason
from gateway.domain.payments import Payment, Refund
from gateway.domain.storage import HistoryEntry, PaymentFilter, Store

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
PAGE_BYTES_MAX = 3 * 1024 * 1024
# What a payment takes beside its longest texts: ids, references, money, metadata keys.
PAYMENT_BYTES = 6 * 1024

Row = TypeVar("Row")


class Queries:
    """The reads behind PaymentGateway; a tenant sees its own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_payment(self, caller: Caller, payment_id: str) -> Payment:
        """Raises NotFound(PAYMENT_NOT_FOUND)."""
        check_id("payment_id", payment_id)
        payment = await self._store.get_payment(caller.tenant_id, payment_id)
        if payment is None:
            raise no_payment(payment_id)
        return payment

    async def get_payment_by_order(self, caller: Caller, order_reference: str) -> Payment:
        """Raises NotFound, and Precondition(PAYMENT_REFERENCE_AMBIGUOUS) where the order has more than one payment."""
        check_id("order_reference", order_reference)
        found = await self._store.find_payments(caller.tenant_id, order_reference=order_reference)
        if len(found) > 1:
            raise Precondition(
                Reason.PAYMENT_REFERENCE_AMBIGUOUS,
                f"order {order_reference} has more than one payment; list them by this order_reference",
                field="order_reference",
            )
        return await self._the_one(caller, found, f"of order {order_reference}")

    async def get_payment_by_provider(self, caller: Caller, account_id: str, provider_payment_id: str) -> Payment:
        """Raises NotFound(PAYMENT_NOT_FOUND)."""
        check_id("provider_reference.account_id", account_id)
        check_id("provider_reference.provider_payment_id", provider_payment_id)
        found = await self._store.find_payments(
            caller.tenant_id, account_id=account_id, provider_payment_id=provider_payment_id
        )
        return await self._the_one(caller, found, f"{provider_payment_id} at {account_id}")

    async def list_payments(
        self, caller: Caller, payment_filter: PaymentFilter, page_size: int, page_token: str
    ) -> tuple[Sequence[Payment], str]:
        """A page, newest first, and the next page's token. Raises InvalidRequest(PAGE_TOKEN_INVALID)."""
        question = f"payments {caller.tenant_id} {payment_filter!r}"
        limit = page_size_of(page_size)
        rows = await self._store.list_payments(
            caller.tenant_id, payment_filter, before_payment_id=position_of(question, page_token), limit=limit + 1
        )
        return _page(rows, _fitting(rows, limit), question, lambda payment: payment.payment_id)

    async def get_refund(self, caller: Caller, refund_id: str) -> Refund:
        """Raises NotFound(REFUND_NOT_FOUND)."""
        check_id("refund_id", refund_id)
        refund = await self._store.get_refund(caller.tenant_id, refund_id)
        if refund is None:
            raise NotFound(
                Reason.REFUND_NOT_FOUND, f"there is no refund {refund_id} for this tenant", field="refund_id"
            )
        return refund

    async def list_refunds(
        self, caller: Caller, payment_id: str, page_size: int, page_token: str
    ) -> tuple[Sequence[Refund], str]:
        """A page, newest first. Raises NotFound(PAYMENT_NOT_FOUND), InvalidRequest(PAGE_TOKEN_INVALID)."""
        question = f"refunds {caller.tenant_id} {payment_id}"
        limit = page_size_of(page_size)
        position = position_of(question, page_token)
        if payment_id:
            await self.get_payment(caller, payment_id)
        rows = await self._store.list_refunds(caller.tenant_id, payment_id, before_refund_id=position, limit=limit + 1)
        return _page(rows, limit, question, lambda refund: refund.refund_id)

    async def timeline(
        self, caller: Caller, payment_id: str, page_size: int, page_token: str
    ) -> tuple[Sequence[HistoryEntry], str]:
        """A page, oldest first. Raises NotFound(PAYMENT_NOT_FOUND), InvalidRequest(PAGE_TOKEN_INVALID)."""
        question = f"timeline {caller.tenant_id} {payment_id}"
        limit = page_size_of(page_size)
        position = position_of(question, page_token)
        await self.get_payment(caller, payment_id)
        rows = await self._store.history(
            caller.tenant_id, payment_id, after_version=int(position or "0"), limit=limit + 1
        )
        return _page(rows, limit, question, lambda entry: str(entry.version))

    async def _the_one(self, caller: Caller, found: Sequence[str], what: str) -> Payment:
        if not found:
            raise NotFound(Reason.PAYMENT_NOT_FOUND, f"there is no payment {what} for this tenant")
        return await self.get_payment(caller, found[0])


def _fitting(payments: Sequence[Payment], limit: int) -> int:
    """How many of `payments`, at most `limit`, stay within a page's bytes; one at least."""
    room = PAGE_BYTES_MAX
    for number, payment in enumerate(payments[:limit]):
        texts = (*payment.terms.metadata.values(), payment.terms.description, payment.terms.return_url)
        room -= PAYMENT_BYTES + sum(len(text.encode()) for text in texts)
        if room < 0 and number:
            return number
    return limit


def page_size_of(asked: int, *, default: int = PAGE_SIZE_DEFAULT, most: int = PAGE_SIZE_MAX) -> int:
    """The page size to use: `default` for 0. Raises InvalidRequest below 0 and above `most`."""
    if not 0 <= asked <= most:
        raise InvalidRequest(Reason.FIELD_INVALID, f"page_size: must be 0 (for {default}) to {most}", field="page_size")
    return asked or default


def _page(rows: Sequence[Row], limit: int, question: str, position: Callable[[Row], str]) -> tuple[Sequence[Row], str]:
    if len(rows) <= limit:
        return rows, ""
    return rows[:limit], page_token_of(question, position(rows[limit - 1]))
