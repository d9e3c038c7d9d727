"""Where a consumer stands, while observations are being numbered."""

from typing import Any

import pytest
from sqlalchemy.util import await_only

from gateway.domain.storage import Store
from store import consumers
from tests.store import making
from tests.store.test_consumers import observations, stand


async def test_what_is_numbered_meanwhile_is_not_decided(
    store: Store, beside: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An observation that is numbered while the place is worked out is not passed over: a Watch would never send it."""
    look = consumers._first_undecided

    def overtaken(*arguments: Any) -> tuple[int, int] | None:
        found = look(*arguments)
        monkeypatch.undo()
        await_only(observations(beside, 1))
        return found

    await store.ensure_consumer(making.TENANT, "billing")
    monkeypatch.setattr(consumers, "_first_undecided", overtaken)
    assert (await stand(store)).decided_through == 0
    assert (await stand(store)).undecided == 1
