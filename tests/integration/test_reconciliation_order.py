"""However a provider lists its payments, a reconciliation finds the same: every order, every cut, every repetition."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import aiohttp
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.app.runtime import Runtime
from gateway.app.settings import ReconciliationSettings
from gateway.domain.commands import Caller
from gateway.domain.providers import Accounts, Snapshot
from gateway.domain.reconciliation import JobState, Wanted
from tests.failover.rig import MAIN, Scene, accounts_at, created, scene_at, wish
from tests.store import making

LONG = 2**52


@dataclass
class Dealt:
    """The sandbox's own list, in the order and the pages that a test wants; everything else is the adapter's."""

    adapter: Any
    pages: Sequence[Sequence[int]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.adapter, name)

    async def list_payments(self, *, page_token: str, limit: int, **asked: Any) -> tuple[Sequence[Snapshot], str]:
        """The page after `page_token`: a page's number, or the start."""
        every, more = await self.adapter.list_payments(page_token="", limit=100, **asked)
        assert not more
        number = int(page_token or 0)
        page = self.pages[number] if self.pages else range(len(every))
        return [every[each] for each in page], str(number + 1) if number + 1 < len(self.pages) else ""


@dataclass
class DealtAccounts:
    """The accounts, the first of which lists as `pages` say."""

    accounts: Accounts
    pages: Sequence[Sequence[int]] = ()

    def get(self, account_id: str) -> Any:
        account = self.accounts.get(account_id)
        return DealtAccount(account, Dealt(account.adapter, self.pages)) if account else None

    def all(self) -> Sequence[Any]:
        return [self.get(each.account_id) for each in self.accounts.all()]


@dataclass
class DealtAccount:
    """One account with that adapter."""

    account: Any
    adapter: Dealt

    def __getattr__(self, name: str) -> Any:
        return getattr(self.account, name)


async def control(scene: Scene, path: str, body: dict[str, Any]) -> None:
    """One of the sandbox's controls."""
    async with aiohttp.ClientSession() as session, session.post(scene.sandbox_url + path, json=body) as told:
        assert told.status == 200, await told.text()


async def books(scene: Scene, folder: Path) -> int:
    """Two payments that agree, and one of each break; how many objects the provider lists."""
    runtime = scene.runtime()
    names = ("fine", "fine-too", "amount", "hidden", "doubled", "refunded")
    made = {name: await created(runtime, wish(key=name, account_id=MAIN)) for name in names}
    at = {name: f"/control/payments/{each.provider_reference.provider_payment_id}" for name, each in made.items()}
    await control(scene, f"{at['amount']}/falsify", {"captured": 900})
    await control(scene, f"{at['hidden']}/hide", {})
    await control(scene, f"{at['doubled']}/duplicate", {})
    await control(scene, f"{at['refunded']}/refund", {"amount": 400})
    # Another database's payment at the same account: here nobody knows it.
    (folder / "elsewhere").mkdir()
    async with scene_at(folder / "elsewhere") as elsewhere:
        elsewhere.accounts = accounts_at(scene.sandbox_url, scene.refusing_url)
        await created(elsewhere.runtime(), wish(key="not-here", account_id=MAIN))
        await elsewhere.accounts.close()
    await runtime.drain(5)
    return len(made) - 1 + 1 + 1


async def reconciled(scene: Scene, accounts: DealtAccounts, runtime: Runtime) -> tuple[Any, ...]:
    """What a dry run finds: breaks, counts and sums."""
    wanted = Wanted(making.fresh("rec"), Caller("", "", "op", "c"), making.fresh("key"), MAIN, 0, LONG, dry_run=True)
    job, _ = await scene.store.want_reconciliation(wanted, making.audit())
    for _ in range(50):
        await runtime.reconciler.run_once()
        found = await scene.store.get_reconciliation(job.reconciliation_id)
        assert found is not None
        if found.state is JobState.DONE:
            breaks = await scene.store.list_breaks(job.reconciliation_id, after_number=0, limit=100)
            told = sorted((each.type, each.payment_id, each.provider_payment_id, each.theirs) for each in breaks)
            return told, found.provider_count, found.foreign_count, found.payment_count, found.sums
    raise AssertionError(f"{job.reconciliation_id} is never done")


async def test_the_order_of_a_list_decides_nothing(tmp_path: Path) -> None:
    """Permuted, cut anywhere, repeated on a page and across pages: the same breaks, counts and sums, each once."""
    async with scene_at(tmp_path) as scene:
        count = await books(scene, tmp_path)
        accounts = DealtAccounts(scene.accounts)
        quick = ReconciliationSettings(pause_s=0.0)
        runtime = scene.runtime(accounts=cast(Accounts, accounts), reconciliation=quick)
        plain = await reconciled(scene, accounts, runtime)
        assert {each[0] for each in plain[0]} == {"AMOUNT", "DUPLICATE", "MISSING_HERE", "MISSING_THERE"}
        assert plain[1] == count
        dealt: list[list[list[int]]] = []
        cards = st.permutations(range(count)).flatmap(
            lambda order: st.lists(st.sampled_from(order), max_size=4).map(lambda again: [*order, *again])
        )
        cuts = st.sets(st.integers(1, count + 3), max_size=4)

        @settings(max_examples=8, deadline=None, derandomize=True, database=None)
        @given(cards=cards, cuts=cuts)
        def deal(cards: list[int], cuts: set[int]) -> None:
            at = [0, *sorted(each for each in cuts if each < len(cards)), len(cards)]
            dealt.append([cards[begin:end] for begin, end in pairwise(at)])

        deal()
        for pages in dealt:
            accounts.pages = pages
            assert await reconciled(scene, accounts, runtime) == plain, pages
        assert len(dealt) == 8
        await runtime.drain(5)
