"""PayPal's own records, by way of its transaction search: a window's orders, and the order of a payment of ours.

The search tells transactions; each that bears an id of ours is followed to its order, and the order, read by its id,
is the record. It can miss: an order that nobody has paid has no transaction, and one that was paid is shown hours
later. So a window is listed only once it must be complete, and a search that finds nothing proves nothing.
"""

import asyncio
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.domain.errors import InvalidRequest, Reason, Unavailable
from gateway.domain.movements import Facts
from gateway.domain.providers import Absent, Found, Lookup, Snapshot, Unreadable
from providers.fields import UnreadableAnswer, bounded
from providers.paypal.objects import Objects
from providers.paypal.reporting import KEPT_S, LAG_S, WINDOW_S_MAX, Kind, NoLeave, Page, Reporting, Row, TooMany

LIST_PAGE_MAX = 50
"""Each row can cost two reads, and a page is one call of the gateway's."""

READS_AT_ONCE_MAX = 8
WINDOWS_MAX = 64
"""Within one call: more than three years have, and what halving a crowded one makes."""

LOOKUP_PAGE, LOOKUP_PAGES_MAX = 200, 20
LEADS_MAX = 8
LOOKUP_FROM_S = 900
"""A younger payment is not searched for: the search would hardly show it, and a resend must not wait for its answer."""

BEFORE_S, AFTER_S = 300, 3600
"""Where the first money of an order without its payer lies in time around the making of our id."""

_UUID7 = re.compile(r"pay_(?P<ms>[0-9a-f]{12})7[0-9a-f]{19}\Z")
_OURS = re.compile(r"pay_[0-9A-Za-z_-]+\Z")
_TOKEN = re.compile(r"([0-9]{1,11})\.([0-9]{1,11})\.([0-9]{1,11})\.([0-9]{1,5})\.([0-9]{1,3})\Z")

NO_CURRENCY = "XXX"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a list stands: in a part of its window, which ends at `until_s`, at a page. Whole unix seconds."""

    start_s: int
    end_s: int
    until_s: int
    number: int
    size: int

    def __str__(self) -> str:
        return f"{self.start_s}.{self.end_s}.{self.until_s}.{self.number}.{self.size}"

    def after(self, page: Page) -> "_Place | None":
        """The place of the next page; None behind the last one."""
        if self.number < page.pages:
            return replace(self, number=self.number + 1)
        if self.end_s >= self.until_s:
            return None
        return replace(self, start_s=self.end_s, end_s=min(self.end_s + WINDOW_S_MAX, self.until_s), number=1)

    def halved(self) -> "_Place":
        """The first half of a part that has too many rows. Raises UnreadableAnswer where it has no half."""
        if self.end_s - self.start_s < 2:
            raise UnreadableAnswer("too many transactions in one second")
        return replace(self, end_s=(self.start_s + self.end_s) // 2, number=1)


class Listing:
    """Lists and looks up orders of one account.

    `lag_s` is for how long PayPal may not show a transaction yet; `wall` gives unix seconds.
    """

    def __init__(
        self,
        reporting: Reporting,
        objects: Objects,
        account_id: str,
        *,
        lag_s: float = LAG_S,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._reporting = reporting
        self._objects = objects
        self._account_id = account_id
        self._lag_s = lag_s
        self._wall = wall

    async def payments(
        self,
        *,
        created_from_us: int,
        created_before_us: int,
        page_token: str,
        limit: int,
        timeout_s: float,
        now: Callable[[], float],
    ) -> tuple[Sequence[Snapshot], str]:
        """A page of the orders that had a transaction in [from, before), whole as they are now.

        What bears no id of ours is there as a record without one. Raises InvalidRequest CURSOR_INVALID for a token that
        is none, FIELD_INVALID for a window that ends far ahead, and Unavailable: also while the window may not be
        complete yet, then with `retry_after_s`.
        """
        deadline = now() + timeout_s
        place = _placed(page_token) if page_token else self._begun(created_from_us, created_before_us, limit)
        try:
            for _ in range(WINDOWS_MAX):
                if place is None:
                    return [], ""
                try:
                    page = await self._page(place, deadline - now())
                except TooMany:
                    place = place.halved()
                    continue
                following = place.after(page)
                records = [each for each in page.rows if each.kind is not Kind.OTHER]
                if records:
                    return await self._orders(records, deadline, now), str(following or "")
                place = following
        except NoLeave as refused:
            raise Unavailable(Reason.PROVIDER_UNAVAILABLE, f"{refused}: `obol providers check` says more") from None
        except ValueError as error:
            raise Unavailable(Reason.PROVIDER_UNAVAILABLE, f"PayPal's transaction search: {error}") from None
        return [], str(place or "")

    async def lookup(self, payment_id: str, *, timeout_s: float, now: Callable[[], float]) -> Lookup:
        """The order of our payment where the search shows one. Raises nothing.

        `Absent` is never consistent: that nothing is found, or that this account cannot be asked, means nothing.
        """
        deadline, wall_s = now() + timeout_s, self._wall()
        read = _UUID7.match(payment_id)
        made_s = int(read["ms"], 16) // 1000 if read else None
        too_young = made_s is not None and wall_s - made_s < min(LOOKUP_FROM_S, self._lag_s)
        if too_young or not _OURS.match(payment_id):
            return Absent(consistent=False)
        last_s = math.ceil(wall_s)
        start_s, end_s = (last_s - WINDOW_S_MAX, last_s) if made_s is None else (made_s - BEFORE_S, made_s + AFTER_S)
        try:
            leads = await self._leads(payment_id, start_s, min(end_s, last_s), deadline, now)
        except (NoLeave, TooMany):
            return Absent(consistent=False)
        except ValueError as error:
            return Unreadable(bounded(str(error), 200))
        return await self._order_of(payment_id, leads, deadline, now) if leads else Absent(consistent=False)

    def _begun(self, created_from_us: int, created_before_us: int, limit: int) -> _Place | None:
        """The first place; None for a window in which there is nothing to be listed."""
        wall_s, end_s = self._wall(), created_before_us / 1_000_000
        # An older transaction is in no list of PayPal's any more.
        start_s = max(created_from_us // 1_000_000, math.floor(wall_s) - KEPT_S)
        until = min(end_s, wall_s)
        if start_s >= until:
            return None
        wait_s = end_s + self._lag_s - wall_s if self._lag_s else 0.0
        if wait_s > 2 * self._lag_s:
            raise InvalidRequest(
                Reason.FIELD_INVALID,
                "this window ends too far ahead: its job would wait for it",
                field="window_end_time",
            )
        if wait_s > 0:
            raise Unavailable(
                Reason.PROVIDER_UNAVAILABLE,
                f"PayPal shows a transaction up to {self._lag_s:.0f} s late: this window is complete in {wait_s:.0f} s",
                retry_after_s=wait_s,
            )
        until_s = math.ceil(until)
        size = max(1, min(limit, LIST_PAGE_MAX))
        return _Place(start_s, min(start_s + WINDOW_S_MAX, until_s), until_s, 1, size)

    async def _page(self, place: _Place, timeout_s: float) -> Page:
        return await self._reporting.page(
            place.start_s, place.end_s, number=place.number, size=place.size, timeout_s=timeout_s
        )

    async def _orders(self, rows: Sequence[Row], deadline: float, now: Callable[[], float]) -> list[Snapshot]:
        """The order of each row, once. Raises UnreadableAnswer: a record of ours that cannot be read is not skipped."""
        turns = asyncio.Semaphore(READS_AT_ONCE_MAX)

        async def find(lead: str) -> Lookup:
            async with turns:
                return await self._objects.find(lead, timeout_s=deadline - now(), now=now)

        leads = {each.lead: each for each in rows if each.lead}
        strangers = {each.transaction_id: self._stranger(each) for each in rows if not each.lead}
        orders: dict[str, Snapshot] = {}
        for (lead, row), lookup in zip(leads.items(), await asyncio.gather(*map(find, leads)), strict=True):
            if isinstance(lookup, Found):
                orders[lookup.snapshot.provider_payment_id] = lookup.snapshot
            elif isinstance(lookup, Absent) and row.kind is Kind.UNMAPPED:
                strangers[row.transaction_id] = self._stranger(row)
            else:
                raise UnreadableAnswer(_listed_only(lead, lookup))
        return [*orders.values(), *strangers.values()]

    def _stranger(self, row: Row) -> Snapshot:
        """That there is such a transaction is all that is told of it: it is counted, and nothing else."""
        reference = f"transaction:{row.transaction_id}"
        return Snapshot(self._account_id, reference, 0, NO_CURRENCY, Facts(), unmapped=row.unmapped)

    async def _leads(
        self, payment_id: str, start_s: int, end_s: int, deadline: float, now: Callable[[], float]
    ) -> list[str]:
        """What to read for the orders of this payment; several transactions may be of one order."""
        leads: dict[str, None] = {}
        for number in range(1, LOOKUP_PAGES_MAX + 1):
            page = await self._reporting.page(
                start_s, end_s, number=number, size=LOOKUP_PAGE, timeout_s=deadline - now()
            )
            own = [each for each in page.rows if each.payment_id == payment_id and each.kind is not Kind.UNMAPPED]
            leads.update({each.lead: None for each in own if each.lead})
            if number >= page.pages or len(leads) >= LEADS_MAX:
                break
        return list(leads)[:LEADS_MAX]

    async def _order_of(
        self, payment_id: str, leads: Sequence[str], deadline: float, now: Callable[[], float]
    ) -> Lookup:
        """The one order to which all of them lead, if it says itself that it is of this payment."""
        found: dict[str, Found] = {}
        for lead in leads:
            lookup = await self._objects.find(lead, timeout_s=deadline - now(), now=now)
            if not isinstance(lookup, Found):
                return Unreadable(_listed_only(lead, lookup)[:200])
            if lookup.snapshot.payment_id != payment_id:
                return Unreadable("mismatch: the order that is listed for this payment is of another one")
            found[lookup.snapshot.provider_payment_id] = lookup
        if len(found) > 1:
            return Unreadable("more than one order carries this reference")
        return next(iter(found.values()))


def _listed_only(lead: str, lookup: Lookup) -> str:
    return f"{lead} is listed, and its order is {getattr(lookup, 'failure', 'not there')}"


def _placed(token: str) -> _Place:
    read = _TOKEN.match(token)
    place = _Place(*(int(each) for each in read.groups())) if read else None
    if place is None or not (place.start_s < place.end_s <= place.until_s and place.number and place.size):
        raise InvalidRequest(Reason.CURSOR_INVALID, "no place in a list of PayPal's", field="page_token")
    return place
