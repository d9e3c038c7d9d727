"""I10 and I6, command by command: a last word is kept until its key expires, and nothing else is kept as one."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.app.invariants import check_dossier
from gateway.domain.dossier import Dossier, Invariant
from gateway.domain.states import CommandState
from tests.unit.app.books import Books
from tests.unit.app.desk import Desk


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({}, []),
        ({"reply": None}, [Invariant.I10]),
        ({"reply": None, "expired": True}, []),
        ({"state": CommandState.UNKNOWN}, [Invariant.I6]),
    ],
    ids=["kept", "lost", "expired", "not final"],
)
def test_a_last_word_is_there_until_its_key_expires(change: dict[str, Any], broken: list[Invariant]) -> None:
    """A reply that is gone is found, whose key is good; and a reply to what has not ended."""
    desk = Desk()
    desk.answered(desk.create, Books(desk.payment).execute(desk.create))
    (command,) = desk.aggregate.commands
    assert command.reply is not None
    dossier = Dossier(desk.payment, (replace(command, **change),), desk.aggregate.operations, (), (), ())
    found = [each.invariant for each in check_dossier(dossier)]
    assert [each for each in found if each in (Invariant.I6, Invariant.I10)] == broken
