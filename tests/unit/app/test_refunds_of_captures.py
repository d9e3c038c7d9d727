"""I5, capture by capture: where a refund says which capture it is of, that one gave back no more than it took."""

from dataclasses import replace

import pytest

from gateway.app.invariants import check_dossier
from gateway.domain.derivation import derive_sums
from gateway.domain.dossier import Dossier, Invariant
from gateway.domain.movements import Facts, Movement, MovementKind, MovementStatus
from tests.unit.app.desk import Desk

K, S = MovementKind, MovementStatus


@pytest.mark.parametrize(
    ("refunded", "status", "broken"), [(60, S.SUCCEEDED, 1), (40, S.SUCCEEDED, 0), (60, S.FAILED, 0)]
)
def test_a_capture_gives_back_no_more_than_it_took(refunded: int, status: MovementStatus, broken: int) -> None:
    """Forty and sixty taken: sixty of the forty is found, though the sums are right."""
    desk = Desk()
    moved: list[tuple[MovementKind, str, int, MovementStatus, str | None]] = [
        (K.CAPTURE, "a", 40, S.SUCCEEDED, None),
        (K.CAPTURE, "b", 60, S.SUCCEEDED, None),
        (K.REFUND, "r", refunded, status, "a"),
    ]
    account = desk.payment.account_id
    facts = Facts().merge(
        Facts(tuple(Movement(account, kind, name, of, "USD", at, parent_id=p) for kind, name, of, at, p in moved))
    )
    payment = replace(desk.payment, facts=facts, sums=derive_sums(facts))
    found = [each for each in check_dossier(Dossier(payment, (), (), (), (), ())) if each.invariant is Invariant.I5]
    assert len(found) == broken
