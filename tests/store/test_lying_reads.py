"""What a look tells of another operation's money is measured as well, whoever looked and for whatever it was."""

from typing import Any, cast

import pytest

from gateway.app.clock import SystemClock
from gateway.app.learning import Held, Learning
from gateway.app.settings import EngineSettings
from gateway.app.settling import Lesson
from gateway.app.telemetry import Silence
from gateway.app.verdicts import Verdict
from gateway.domain.commands import CommandKind
from gateway.domain.errors import Sent
from gateway.domain.movements import MovementKind
from gateway.domain.observations import Source
from gateway.domain.providers import Snapshot
from gateway.domain.states import CommandState
from gateway.domain.storage import Store
from gateway.rpc.codec import ProtoReplyCodec
from providers.registry import AccountRegistry
from tests.store import making
from tests.store.acting import captured
from tests.store.looking import rows


@pytest.mark.parametrize("by", ["answer", "look"])
@pytest.mark.parametrize("lies", [True, False])
async def test_no_read_changes_what_another_operation_moved(store: Store, url: str, by: str, lies: bool) -> None:
    """It says that the create took one more: nothing of it is believed, the refund is UNKNOWN, and it is told."""
    payment = await captured(store)
    claim = making.claim_on(payment, CommandKind.REFUND, amount_minor=100)
    held = making.held(claim, await store.claim(claim))
    aggregate = await store.load(making.TENANT, payment.payment_id)
    assert aggregate is not None
    create = next(each for each in aggregate.operations if each.kind is CommandKind.CREATE)
    amount_minor = payment.terms.amount_minor + lies
    facts = making.money(
        payment, MovementKind.CAPTURE, amount_minor=amount_minor, operation_id=create.operation_id
    ).merge(making.money(payment, MovementKind.REFUND, amount_minor=100, operation_id=held.operation_id))
    snapshot = Snapshot(payment.account_id, f"prov_{payment.payment_id}", 10_000, payment.terms.currency, facts)
    accounts = AccountRegistry((), defaults={}, default="")
    learning = Learning(store, accounts, ProtoReplyCodec(), cast(Any, Silence()), EngineSettings(), SystemClock())
    if by == "answer":
        answered = Verdict(CommandState.UNKNOWN, Sent.YES, snapshot=snapshot)
        settled = await learning.settle_held(Held(held, making.CALLER, None), answered, Source.API_REPLY)
    else:
        settled = await learning.settle_read(aggregate, Lesson(Source.RECOVERY, "look", snapshot))
    assert settled is not None
    after = next(each.state for each in settled.operations if each.operation_id == held.operation_id)
    untouched = CommandState.UNKNOWN if by == "answer" else CommandState.SENDING
    assert after is (untouched if lies else CommandState.SUCCEEDED)
    assert settled.payment.sums.captured_minor == payment.terms.amount_minor
    told = await rows(url, "SELECT detail FROM observations WHERE kind = 'CONTRADICTION'")
    assert [detail for (detail,) in told] == (["mismatch: capture of 10001, not 10000"] if lies else [])
