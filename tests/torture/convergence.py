"""The quiet phase: nothing fails any more, and everything must come to rest within bounded time."""

import asyncio
import time
from dataclasses import dataclass

from tests.torture.database import Database

UNKNOWN_99_S_MAX = 60.0
ALL_S_MAX = 600.0
LOOK_S = 0.25

_UNKNOWN = "SELECT operation_id FROM operations WHERE state IN ('SENDING', 'UNKNOWN')"
_LEFT = """
SELECT (SELECT count(*) FROM operations WHERE state IN ('SENDING', 'UNKNOWN', 'PENDING')),
       (SELECT count(*) FROM callbacks WHERE state IN ('RECEIVED', 'WAITING')),
       (SELECT count(*) FROM observation_outbox),
       (SELECT count(*) FROM payments WHERE failover_due_us IS NOT NULL)
"""


@dataclass
class Convergence:
    """How long it took, from the healing on. `left`: what had not come to rest, "" for nothing."""

    unknown: int = 0
    unknown_99_s: float = 0.0
    unknown_all_s: float = 0.0
    rest_s: float = 0.0
    left: str = ""

    def violations(self) -> list[str]:
        """The bounds that were broken."""
        found = []
        if self.unknown_99_s > UNKNOWN_99_S_MAX:
            found.append(f"convergence: 99 % of {self.unknown} UNKNOWN took {self.unknown_99_s:.1f} s")
        if self.left:
            found.append(f"convergence: after {ALL_S_MAX:g} s there is still {self.left}")
        return found


async def converge(database: Database, healed_s: float) -> Convergence:
    """Wait until nothing is under way. `healed_s`: when the last fault ended, by the monotonic clock."""
    came = Convergence()
    begun = {row[0] for row in await database.rows(_UNKNOWN)}
    came.unknown = len(begun)
    while True:
        age_s = time.monotonic() - healed_s
        unknown = begun & {row[0] for row in await database.rows(_UNKNOWN)}
        if len(unknown) > len(begun) * 0.01:
            came.unknown_99_s = age_s
        if unknown:
            came.unknown_all_s = age_s
        operations, callbacks, outbox, failovers = (await database.rows(_LEFT))[0]
        if not (operations or callbacks or outbox or failovers):
            came.rest_s = age_s
            return came
        if age_s > ALL_S_MAX:
            came.left = (
                f"{operations} operations, {callbacks} callbacks, {outbox} observations without a number, "
                f"{failovers} failovers"
            )
            return came
        await asyncio.sleep(LOOK_S)
