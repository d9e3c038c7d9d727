"""Keys that PostgreSQL does not look up: the statements write no orphan, and `obol verify` finds one that is there."""

import pytest

from gateway.domain.dossier import Invariant
from gateway.domain.storage import Store
from gateway.verification import verify
from store import open_store
from tests.store.acting import authorized, captured, unknown
from tests.store.conftest import SEALING
from tests.store.looking import rows


async def test_what_the_statements_write_has_no_orphan(store: Store, url: str) -> None:
    """Claims and settles of every kind that is at hand leave each row with its payment and its command."""
    await captured(store)
    await authorized(store)
    await unknown(store)
    await store.number_observations()
    found = await verify(url)
    assert (found.payments, found.by_invariant[Invariant.I13]) == (3, 0)


@pytest.mark.parametrize(
    ("orphan", "row"),
    [
        ("UPDATE operations SET command_id = 'cmd_gone'", "operations op"),
        ("UPDATE commands SET payment_id = 'pay_gone'", "commands of pay_gone"),
    ],
)
async def test_an_orphan_is_found(postgresql: str, orphan: str, row: str) -> None:
    """A row that no key holds any more is named, as an operator's hand could leave it."""
    opened = await open_store(postgresql, sealing=SEALING)
    await captured(opened)
    await opened.close()
    await rows(postgresql, orphan)
    found = [each for each in (await verify(postgresql)).violations if each.invariant is Invariant.I13]
    assert any(each.row.startswith(row) for each in found), found
