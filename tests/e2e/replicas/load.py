"""Load on an estate: billing with its watchers as torture has them, and readers who must see no error at all."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.verification import verify
from obol.client import AioBillingObservationClient, AioPaymentGatewayClient, GatewayError
from obol.v1 import payment_gateway_pb2 as paying
from tests.e2e.replicas.estate import Estate, told, until
from tests.processes import CALLER
from tests.torture.billing import Billing
from tests.torture.convergence import converge
from tests.torture.database import PostgresqlDatabase
from tests.torture.intents import Journal
from tests.torture.provider import Provider, read_effects
from tests.torture.reckoning import judge_inbox, judge_intents, judge_records, judge_watching, read_commands
from tests.torture.watching import CursorWatcher, NamedConsumer

CLIENTS = 4
CLIENT_PAUSE_S = 0.1
READER_PAUSE_S = 0.05


class Load:
    """What goes on while a test breaks something, and everything that it was told."""

    def __init__(self, estate: Estate, database: PostgresqlDatabase, provider: Provider, name: str) -> None:
        self.estate = estate
        self.journal = Journal()
        self.read_errors: Counter[str] = Counter()
        self.reads = 0
        self.replies = 0
        self._database = database
        self._provider = provider
        self._consumer_name = name
        self._seed = sum(name.encode())
        self._stopping = False

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator["Load"]:
        """Load for as long as the block lasts; then rest, and the reckoning, which must find nothing."""
        async with AsyncExitStack() as ending:
            channels = [await ending.enter_async_context(self.estate.calling()) for _ in range(5)]
            clients = [AioPaymentGatewayClient(channel, CALLER) for channel in channels[:2]]
            self.billing = Billing(clients, self._provider, self.journal, self._seed, self._replied)
            self.watcher = CursorWatcher(AioBillingObservationClient(channels[3], CALLER), lambda: None)
            self.consumer = NamedConsumer(AioBillingObservationClient(channels[4], CALLER), self._consumer_name)
            watching = asyncio.create_task(self.watcher.run())
            consuming = asyncio.create_task(self.consumer.run())
            reading = asyncio.create_task(self._read(AioPaymentGatewayClient(channels[2], CALLER)))
            paying_ = [asyncio.create_task(self.billing.client(n, CLIENT_PAUSE_S)) for n in range(CLIENTS)]
            try:
                yield self
                self.billing.stopping = self._stopping = True
                await asyncio.gather(*paying_, reading)
                await self._reckon(watching, consuming)
            finally:
                for task in (*paying_, reading, watching, consuming):
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.gather(*paying_, reading, watching, consuming, return_exceptions=True)

    async def more(self, replies: int) -> None:
        """Wait for so many more replies to billing, and for half as many readers' rounds."""
        replied, read = self.replies + replies, self.reads + replies // 2

        async def there() -> bool:
            return self.replies >= replied and self.reads >= read

        await until(there, f"{replies} more replies", within_s=40)

    def _replied(self) -> None:
        self.replies += 1

    async def _read(self, client: AioPaymentGatewayClient) -> None:
        while not self._stopping:
            try:
                page = await client.list_payments(paying.ListPaymentsRequest(page_size=5))
                for payment in page.payments[:2]:
                    await client.get_payment(paying.GetPaymentRequest(payment_id=payment.payment_id))
                self.reads += 1
            except GatewayError as error:
                self.read_errors[f"{error.code.name} {error.reason} {error.message}"] += 1
            await asyncio.sleep(READER_PAUSE_S)

    async def _reckon(self, watching: "asyncio.Task[None]", consuming: "asyncio.Task[None]") -> None:
        convergence = await converge(self._database, asyncio.get_running_loop().time())
        assert not convergence.left
        await until(self._caught_up, "the watchers have caught up")
        await until(self._delivered, "the provider's events are delivered")
        assert not {"given_up", "dropped"} & set((await self._provider.deliveries())["counts"])
        await self.consumer.stop(consuming, 10.0)
        effects = read_effects(self.estate.effect_log)
        found = [
            *self.journal.violations,
            *judge_intents(self.journal, await read_commands(self._database), effects),
            *judge_records([payment async for payment in self._provider.payments()]),
            *await judge_watching(self._database, self.watcher.seen, self.consumer.handled, self._consumer_name),
            *await judge_inbox(self._database, self._acknowledged(), set(), set()),
        ]
        assert found == [], "\n".join(found)
        report = await verify(self.estate.database_url, effect_log=self.estate.effect_log, healed=True)
        assert [f"{v.invariant} {v.row}: {v.message}" for v in report.violations] == []
        assert (report.unresolved, report.violation_count) == (0, 0)
        assert report.effects == len(effects) > 0

    async def _caught_up(self) -> bool:
        count = (await self._database.rows("SELECT count(*) FROM observation_log"))[0][0]
        handled = {each[0] for each in self.consumer.handled}
        return len(self.watcher.seen) >= int(count) and len(handled) >= int(count)

    async def _delivered(self) -> bool:
        return not (await self._provider.deliveries())["pending"]

    def _acknowledged(self) -> set[str]:
        """The events that got their 2xx, by the sidecars' own words."""
        said = [each for process in self.estate.sidecars for each in told(process.log, "callback")]
        kept = {each["event_id"] for each in said if each["status"] == 200}
        assert len(kept) > 20, "hardly a callback has arrived"
        return kept


@asynccontextmanager
async def load_on(estate: Estate, name: str) -> AsyncIterator[Load]:
    """Load whose consumer is called `name`."""
    database = PostgresqlDatabase(estate.database_url)
    async with Provider(estate.sandbox_url) as provider, Load(estate, database, provider, name).going_on() as load:
        yield load
