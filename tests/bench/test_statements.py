"""What a payment sends to its database: the counts that the bench shows, held to their bound."""

from pathlib import Path

import pytest

from bench.databases import Engine, fresh
from bench.statements import count_statements

STATEMENTS = {Engine.POSTGRESQL: 2, Engine.SQLITE: 13}


@pytest.mark.parametrize("engine", list(Engine))
async def test_a_payment_commits_twice(engine: Engine, tmp_path: Path) -> None:
    """A CreatePayment is two commits and no more statements than it had."""
    counts = await count_statements(engine, fresh(engine, tmp_path, migrated=True))
    assert counts.commits == 2
    assert counts.round_trips == 2
    assert counts.statements == STATEMENTS[engine]
