"""Client secrets are sealed at rest and read as themselves; a key rotates; a row moved elsewhere opens no more."""

import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.domain.dossier import Invariant
from gateway.domain.errors import Internal
from gateway.domain.payments import NextAction, Payment
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import (
    Callback,
    CallbackChange,
    CallbackState,
    Claim,
    CommandChange,
    PaymentFilter,
    SettleOutcome,
    Store,
)
from gateway.verification import verify
from store import Sealing, SealingKey, fresh_key, leakage, open_store, parse_key
from tests.store import making

ACTION = NextAction("https://bank.example/3ds", "ssec_plantedsecret")
REPLY = b"\x0a\x05reply with ssec_plantedsecret"
ONE, OTHER = fresh_key(), fresh_key()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A store with one sealing key."""
    opened = await open_store(url, sealing=Sealing([ONE]))
    yield opened
    await opened.close()


TABLES = ("payments", "commands", "callbacks")


async def settled(store: Store) -> tuple[Claim, Payment]:
    """A payment that waits for its payer, whose create has a final reply that shows the client secret."""
    claim = making.create_claim()
    base = making.settlement_of(claim, await store.claim(claim))
    waiting = replace(base.payment, state=PaymentState.REQUIRES_ACTION, next_action=ACTION)
    commands = (CommandChange(claim.command.command_id, CommandState.SUCCEEDED, REPLY),)
    assert await store.settle(replace(base, payment=waiting, commands=commands)) is SettleOutcome.APPLIED
    return claim, waiting


async def read_back(store: Store, claim: Claim, payment: Payment) -> None:
    """Every way to read gives what was written, byte for byte."""
    found = await store.load(payment.tenant_id, payment.payment_id)
    assert found is not None
    assert (found.payment.next_action, found.commands[0].reply) == (ACTION, REPLY)
    got = await store.get_payment(payment.tenant_id, payment.payment_id)
    assert got is not None
    assert got.next_action == ACTION
    (listed,) = await store.list_payments(payment.tenant_id, PaymentFilter(), before_payment_id="", limit=1)
    assert listed.next_action == ACTION
    command = claim.command
    kept = await store.find_command(command.caller.tenant_id, command.rpc, command.idempotency_key)
    assert kept is not None
    assert kept.reply == REPLY


async def everything(url: str) -> str:
    """All that payments, commands and callbacks hold."""
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = [(await connection.execute(text(f"SELECT * FROM {name}"))).all() for name in TABLES]
    await engine.dispose()
    return repr(found)


async def change(url: str, statement: str) -> None:
    """What somebody with the database's password can do."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


async def test_a_client_secret_is_nowhere_in_the_clear_and_reads_as_itself(url: str, store: Store) -> None:
    """Neither the secret, nor the URL beside it, nor the reply that shows it; every read gives all of it back."""
    claim, payment = await settled(store)
    callback = making.callback(body=b'{"object": {"client_secret": "ssec_plantedsecret"}}')
    assert await store.receive_callback(callback, making.audit())
    held = await everything(url)
    assert "plantedsecret" not in held
    assert "bank.example" not in held
    await read_back(store, claim, payment)
    (taken,) = await store.take_callbacks(limit=1, lease_s=1)
    assert taken.callback.body == callback.body
    await replayed(store, callback)
    assert (await verify(url, planted=["plantedsecret"])).by_invariant[Invariant.I14] == 0


async def replayed(store: Store, callback: Callback) -> None:
    """Found for a dry run, and taken for a replay, it is what came."""
    change = CallbackChange(callback.callback_id, 1, CallbackState.IGNORED)
    assert await store.change_callback(change)
    kept = await store.find_callback(callback.callback_id)
    assert kept is not None
    assert kept.callback.body == callback.body
    again = await store.replay_callback(callback.callback_id, making.audit(), lease_s=1)
    assert again is not None
    assert again.callback.body == callback.body


async def test_what_holds_no_secret_is_stored_as_it_is(url: str, store: Store) -> None:
    """A redirect alone, its reply, and an ordinary callback can be read by whoever may read the database."""
    claim = making.create_claim()
    base = making.settlement_of(claim, await store.claim(claim))
    waiting = replace(base.payment, next_action=NextAction("https://bank.example/3ds"))
    await store.settle(replace(base, payment=waiting))
    await store.receive_callback(making.callback(body=b'{"plain": 1}'), making.audit())
    held = await everything(url)
    assert "sealed:" not in held
    assert "bank.example" in held


async def test_a_key_rotates_and_opens_what_it_sealed_before(url: str, store: Store) -> None:
    """The new key comes first and seals; the old one stays and opens. Without it the secret is out of reach."""
    claim, payment = await settled(store)
    rotated = await open_store(url, sealing=Sealing([OTHER, ONE]))
    await read_back(rotated, claim, payment)
    later, again = await settled(rotated)
    await rotated.close()
    without = await open_store(url, sealing=Sealing([OTHER]))
    await read_back_alone(without, later, again)
    found = await without.load(payment.tenant_id, payment.payment_id)
    assert found is not None
    assert found.payment.next_action is None  # money is not held up: the provider can be asked again
    with pytest.raises(Internal, match=r"secrets\.sealing_keys"):
        await without.find_command(payment.tenant_id, claim.command.rpc, claim.command.idempotency_key)
    await without.close()


async def read_back_alone(store: Store, claim: Claim, payment: Payment) -> None:
    """What the newer key sealed."""
    kept = await store.find_command(payment.tenant_id, claim.command.rpc, claim.command.idempotency_key)
    assert kept is not None
    assert kept.reply == REPLY


@pytest.mark.parametrize("column", ["next_action", "reply"])
async def test_a_sealed_value_opens_in_its_own_row_alone(column: str, url: str, store: Store) -> None:
    """Copied to another payment of the tenant, it is refused: nobody pays on another's secret."""
    (claim, payment), (other, _) = await settled(store), await settled(store)
    table = "payments" if column == "next_action" else "commands"
    await change(
        url,
        f"UPDATE {table} SET {column} = (SELECT {column} FROM {table} WHERE payment_id = "
        f"'{payment.payment_id}') WHERE payment_id = '{other.command.payment_id}'",
    )
    found = await store.load(payment.tenant_id, other.command.payment_id)
    assert found is not None
    if column == "next_action":
        assert found.payment.next_action is None
    else:
        with pytest.raises(Internal, match="changed or moved"):
            await store.find_command(payment.tenant_id, other.command.rpc, other.command.idempotency_key)
    await read_back_alone(store, claim, payment)


async def test_a_secret_is_never_stored_without_a_key(url: str, postgresql: str) -> None:
    """A PostgreSQL without a key says that it keeps none, and refuses what would be in the clear."""
    opened = await open_store(postgresql)
    assert not opened.keeps_secrets
    with pytest.raises(Internal, match="sealing_keys"):
        await settled(opened)
    with pytest.raises(Internal, match="sealing_keys"):
        await opened.receive_callback(making.callback(body=b'{"client_secret": "x"}'), making.audit())
    assert "ssec" not in await everything(postgresql)
    await opened.close()


async def test_sqlite_makes_a_key_of_its_own_when_it_needs_one(tmp_path: Path, sqlite: str) -> None:
    """In a file beside the database, its owner's alone: the next process finds it, and refuses it once it is shared."""
    opened = await open_store(sqlite)
    assert list(tmp_path.glob("*-sealing-key")) == []
    claim, payment = await settled(opened)
    await opened.close()
    (file,) = tmp_path.glob("*-sealing-key*")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = await open_store(sqlite)
    await read_back(again, claim, payment)
    await again.close()
    file.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        await open_store(sqlite)


async def test_a_planted_secret_is_found_in_every_table(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I14 names the row and the column, and never the value; it looks at every page of a table."""
    claim, _ = await settled(store)
    await change(url, "UPDATE payments SET description = 'pan 4242 4242 4242 4242', next_action = '[\"\",\"plain\"]'")
    for number in range(3):
        await store.receive_callback(making.callback(event_id=f"e{number}", body=b"ssec_0123456789"), making.audit())
    monkeypatch.setattr(leakage, "PAGE_ROWS", 1)
    report = await verify(url)
    assert report.by_invariant[Invariant.I14] == 5
    told = "\n".join(f"{v.row} {v.message}" for v in report.violations if v.invariant is Invariant.I14)
    assert f"payments {claim.command.caller.tenant_id}/{claim.command.payment_id} column description" in told
    assert "column next_action holds a client secret that is not sealed" in told
    assert "4242" not in told
    assert (await verify(url, secrets=False)).by_invariant[Invariant.I14] == 0


async def test_a_log_is_looked_through_as_well(tmp_path: Path, url: str, store: Store) -> None:
    """Line by line, with the line's number."""
    log = tmp_path / "gateway.log"
    log.write_text("fine\n" * 3 + "key sk_" + "live_abcdef0123\n" + "x" * 70_000 + " planted-text\n")
    report = await verify(url, texts=[log], planted=["planted-text"])
    assert [v.row for v in report.violations] == ["gateway.log:4", "gateway.log:6"]


@pytest.mark.parametrize("text", ["", "k", "k:", "k:AAAA", ":" + "A" * 44, "a b:" + "A" * 43 + "=", "k:" + "!" * 44])
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    """Settings say what a key looks like, and never what was given."""
    with pytest.raises(ValueError, match="ID:BASE64") as refusal:
        parse_key(text)
    assert text[3:] == "" or text[3:] not in str(refusal.value)


def test_two_keys_of_one_name_are_refused() -> None:
    """Nobody could tell which one a value was sealed with."""
    with pytest.raises(ValueError, match="two sealing keys"):
        Sealing([ONE, SealingKey(ONE.key_id, OTHER.key)])
