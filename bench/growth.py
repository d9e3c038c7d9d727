"""Growth: a database with a million payments beside an empty sibling, each behind a gateway of its own."""

import itertools
from dataclasses import dataclass

from bench import requests
from bench.databases import Engine, analyse, fresh, meter_of
from bench.effort import RATIO_CALLERS, Effort
from bench.filling import Filled, Tell, fill, sample_ids
from bench.load import Call, Line, Send, Subject, interleaved, paired_ratio, sending
from bench.payments import created, creating, warmed
from bench.plans import Compared, compare_plans
from bench.processes import Bench, Server

EMPTY, FULL = "empty", "full"
SIBLING_PAYMENTS = 300
"""What the empty sibling holds at least, so that a page of it is as full as the other's."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What it is to be full. `ratios`: how many times as long each call takes on the full database, by its name."""

    engine: str
    filled: Filled
    lines: list[Line]
    ratios: dict[str, float]
    plans: list[Compared]

    @property
    def worst(self) -> float:
        """The largest of the ratios."""
        return max(self.ratios.values())


async def measure_growth(bench: Bench, engine: Engine, effort: Effort, urls: tuple[str, Filled], tell: Tell) -> Growth:
    """The full database at `urls` against an empty one: rates in interleaved rounds, then plans and rows touched."""
    full_url, filled = urls
    empty_url = fresh(engine, bench.folder, migrated=True)
    lines: list[Line] = []
    ratios: dict[str, float] = {}
    with bench.gateway(f"empty-{engine}", empty_url) as empty, bench.gateway(f"full-{engine}", full_url) as full:
        async with (
            sending(empty.address, requests.CREATE) as to_empty,
            sending(full.address, requests.CREATE) as to_full,
        ):
            await created(to_empty, SIBLING_PAYMENTS)
            await warmed(to_empty, empty, engine, empty_url)
            await warmed(to_full, full, engine, full_url)
            await _compare(
                "CreatePayment",
                {EMPTY: (empty, creating(to_empty)), FULL: (full, creating(to_full))},
                engine,
                effort,
                lines,
                ratios,
            )
        analyse(empty_url)
        ids = {EMPTY: sample_ids(engine, empty_url), FULL: sample_ids(engine, full_url)}
        async with sending(empty.address, requests.GET) as from_empty, sending(full.address, requests.GET) as from_full:
            gets = {
                EMPTY: (empty, _getting(from_empty, ids[EMPTY])),
                FULL: (full, _getting(from_full, ids[FULL])),
            }
            await _compare("GetPayment", gets, engine, effort, lines, ratios)
        async with (
            sending(empty.address, requests.LIST) as from_empty,
            sending(full.address, requests.LIST) as from_full,
        ):
            pages = {EMPTY: (empty, _listing(from_empty)), FULL: (full, _listing(from_full))}
            await _compare("ListPayments", pages, engine, effort, lines, ratios)
    tell(f"{engine}: rates compared, now the plans")
    plans = await compare_plans(engine, (empty_url, ids[EMPTY][0]), (full_url, ids[FULL][0]))
    return Growth(engine, filled, lines, ratios, plans)


async def fill_database(bench: Bench, engine: Engine, effort: Effort, tell: Tell) -> tuple[str, Filled]:
    """A full database: its URL, and what it took."""
    url = fresh(engine, bench.folder, migrated=True)
    return url, await fill(bench, engine, url, effort.growth_rows, tell)


async def _compare(
    name: str,
    sides: dict[str, tuple[Server, Call]],
    engine: Engine,
    effort: Effort,
    lines: list[Line],
    ratios: dict[str, float],
) -> None:
    subjects = [Subject(side, call, meter_of(engine, server)) for side, (server, call) in sides.items()]
    seen = await interleaved(subjects, callers=RATIO_CALLERS, rounds=effort.growth_rounds, seconds=effort.side_round_s)
    lines += [Line.of(engine, f"{name}, {side}", RATIO_CALLERS, rounds) for side, rounds in seen.items()]
    ratios[name] = paired_ratio(seen[EMPTY], seen[FULL])


def _getting(send: Send, payment_ids: list[str]) -> Call:
    turn = itertools.cycle([requests.get(payment_id) for payment_id in payment_ids])

    async def get() -> None:
        await send(next(turn))

    return get


def _listing(send: Send) -> Call:
    page = requests.list_page()

    async def list_payments() -> None:
        await send(page)

    return list_payments
