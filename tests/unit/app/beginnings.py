"""Payments of 100 that have begun: the gateway's desk and the provider's books, side by side."""

from gateway.domain.movements import AttemptStatus
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.states import PaymentState
from tests.unit.app.books import Books
from tests.unit.app.desk import Desk, creation

P = PaymentState


def begun(
    capture: CaptureMethod = CaptureMethod.AUTOMATIC,
    confirmation: ConfirmationMethod = ConfirmationMethod.AUTOMATIC,
    outcome: AttemptStatus = AttemptStatus.SUCCEEDED,
) -> tuple[Desk, Books]:
    """A payment of 100 whose create was answered."""
    desk = Desk(creation(capture_method=capture, confirmation_method=confirmation))
    books = Books(desk.payment)
    desk.answered(desk.create, books.execute(desk.create, outcome))
    return desk, books


def captured() -> tuple[Desk, Books]:
    """100, paid."""
    desk, books = begun()
    assert desk.state() is P.CAPTURED
    return desk, books


def authorized() -> tuple[Desk, Books]:
    """100, held."""
    desk, books = begun(CaptureMethod.MANUAL)
    assert desk.state() is P.AUTHORIZED
    return desk, books
