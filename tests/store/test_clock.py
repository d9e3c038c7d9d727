"""SQLite's time never goes back, whatever the machine's does, and leases end when their time is over."""

from hypothesis import given
from hypothesis import strategies as st

from store import open_store
from store.sqlite_database import SteadyClock
from tests.store import making
from tests.store.looking import rows, value

MINUTE_US = 60_000_000


class Machine:
    """A clock that somebody sets, and one that only counts."""

    def __init__(self) -> None:
        self.wall_us, self.ticks_us = 1_000 * MINUTE_US, 5

    def pass_us(self, us: int, *, step_us: int = 0) -> None:
        """Time passes, and the clock is set by `step_us`."""
        self.wall_us += us + step_us
        self.ticks_us += us


def test_a_clock_that_is_set_back_goes_on_at_its_own_pace() -> None:
    """Ten minutes back: no reading is earlier than the one before, and a minute is still a minute."""
    machine = Machine()
    clock = SteadyClock(lambda: machine.wall_us, lambda: machine.ticks_us)
    before = clock()
    machine.pass_us(1_000, step_us=-10 * MINUTE_US)
    assert clock() == before + 1_000
    machine.pass_us(MINUTE_US)
    assert clock() == before + 1_000 + MINUTE_US
    machine.pass_us(MINUTE_US, step_us=10 * MINUTE_US)  # set right again
    assert clock() == machine.wall_us


@given(st.lists(st.tuples(st.integers(0, MINUTE_US), st.integers(-20 * MINUTE_US, 20 * MINUTE_US)), max_size=20))
def test_time_never_goes_back(steps: list[tuple[int, int]]) -> None:
    """Whatever the steps; and it is never behind a clock that was only counted on."""
    machine = Machine()
    clock = SteadyClock(lambda: machine.wall_us, lambda: machine.ticks_us)
    last = clock()
    for passed_us, step_us in steps:
        machine.pass_us(passed_us, step_us=step_us)
        now = clock()
        assert now >= last
        assert now >= machine.wall_us
        last = now


async def test_a_lease_from_before_the_clock_was_set_back_ends_in_time(sqlite: str) -> None:
    """A process that starts ten minutes "earlier" goes on from what is recorded: the dead one's claim is soon due."""
    late = await open_store(sqlite, clock_us=lambda: SteadyClock()() + 10 * MINUTE_US)
    claim = making.create_claim(lease_s=0.0)
    await late.claim(claim)
    await late.close()
    again = await open_store(sqlite)
    due = await again.take_due(limit=1, lease_s=30)
    assert [operation.operation_id for operation in due.operations] == [claim.operation.operation_id]
    claimed_us = await value(sqlite, "SELECT claimed_time_us FROM operations")
    assert due.now_us >= claimed_us
    await again.close()


async def test_postgresql_leases_by_its_own_clock(postgresql: str) -> None:
    """A gateway's clock has no part in it: what a claim and a lease record is the database's time."""
    store = await open_store(postgresql, clock_us=lambda: 7)
    await store.claim(making.create_claim(lease_s=30.0))
    ((now_us, claimed_us, lease_us),) = await rows(
        postgresql,
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, claimed_time_us, lease_until_us "
        "FROM operations",
    )
    assert abs(now_us - claimed_us) < 30_000_000
    assert lease_us - claimed_us == 30_000_000
    await store.close()
