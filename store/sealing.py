"""Sealing: client secrets are stored as AES-GCM and read as themselves.

    next_action      of a payment, where it holds a client secret
    reply            a stored reply whose payment does: opened, it is the same bytes again
    callback body    the provider's own bytes, where a client secret is among them

A sealed value names its key, so that keys rotate: the first configured one seals, every one opens. It is bound to its
tenant, its row and its column: moved elsewhere in the database it opens no more. What holds no secret is stored as it
is.
"""

import base64
import json
import os
import re
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.domain.commands import Command
from gateway.domain.errors import Internal, Reason
from gateway.domain.payments import NextAction, Payment
from gateway.domain.storage import Aggregate, Callback, Settlement, TakenCallback

KEY_BYTES = 32
NONCE_BYTES = 12
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
KEY_FILE_SUFFIX = "-sealing-key"
SEALED_TEXT = "sealed:1:"
SEALED_BYTES = b"\0sealed:1:"
"""No message of ours begins with NUL, and no JSON."""

_SECRET_NAME = b"client_secret"
"""What providers call it, in the bodies of their callbacks too."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A key of 32 bytes, and the name that sealed values know it by."""

    key_id: str
    key: bytes = field(repr=False)


def parse_key(text: str) -> SealingKey:
    """A key as it is configured, `ID:BASE64`. Raises ValueError, which holds no part of the key."""
    key_id, _, encoded = text.strip().partition(":")
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        key = b""
    if not KEY_ID.fullmatch(key_id) or len(key) != KEY_BYTES:
        raise ValueError(f"a sealing key is ID:BASE64 with {KEY_BYTES} bytes, such as from `openssl rand -base64 32`")
    return SealingKey(key_id, key)


def fresh_key() -> SealingKey:
    """A new random key, named at random."""
    return SealingKey(f"k{secrets.token_hex(4)}", secrets.token_bytes(KEY_BYTES))


class Sealing:
    """Seals with its first key, opens with each. With a `key_file` in place of keys, one is made there when needed."""

    def __init__(self, keys: Sequence[SealingKey] = (), *, key_file: Path | None = None) -> None:
        """Raises ValueError for two keys of one name, or a key file that others may read or that holds no key."""
        self._key_file = key_file
        self._ciphers: dict[str, AESGCM] = {}
        self._first = ""
        for key in keys or _read(key_file):
            if key.key_id in self._ciphers:
                raise ValueError(f"two sealing keys are called {key.key_id}")
            self._ciphers[key.key_id] = AESGCM(key.key)
            self._first = self._first or key.key_id

    @property
    def keeps_secrets(self) -> bool:
        """Whether a client secret can be stored at all."""
        return bool(self._first) or self._key_file is not None

    def settlement(self, settlement: Settlement) -> Settlement:
        """As it is written."""
        payment = settlement.payment
        action = payment.next_action
        if action is None or not action.holds_secret:
            return settlement
        shown = json.dumps([action.redirect_url, action.client_secret]).encode()
        sealed = self._seal(shown, f"{payment.tenant_id}/{payment.payment_id}/next_action")
        return replace(
            settlement,
            payment=replace(payment, next_action=NextAction("", SEALED_TEXT + sealed)),
            commands=tuple(
                # Every reply of the settlement shows the payment as it is afterwards, and its next action.
                change
                if change.reply is None
                else replace(
                    change, reply=self._seal_bytes(change.reply, f"{payment.tenant_id}/{change.command_id}/reply")
                )
                for change in settlement.commands
            ),
        )

    def payment(self, payment: Payment) -> Payment:
        """As it was. A next action whose key is gone is left out: the provider can be asked for it again."""
        action = payment.next_action
        if action is None or not action.client_secret.startswith(SEALED_TEXT):
            return payment
        sealed = action.client_secret.removeprefix(SEALED_TEXT)
        row = f"{payment.tenant_id}/{payment.payment_id}/next_action"
        try:
            redirect_url, client_secret = json.loads(self._open(sealed, row))
        except Internal as error:
            _log.error("next action left out", payment_id=payment.payment_id, why=str(error))
            return replace(payment, next_action=None)
        return replace(payment, next_action=NextAction(redirect_url, client_secret))

    def command(self, command: Command) -> Command:
        """With the reply that was given. Raises Internal where its key is not configured: nothing stands in for it."""
        reply = command.reply
        if reply is None or not reply.startswith(SEALED_BYTES):
            return command
        return replace(command, reply=self._open_bytes(reply, f"{command.caller.tenant_id}/{command.command_id}/reply"))

    def aggregate(self, aggregate: Aggregate) -> Aggregate:
        """As it was. A reply whose key is gone stays sealed here: money is never held up by it."""
        payment = self.payment(aggregate.payment)
        if payment is aggregate.payment and not any(_is_sealed(command) for command in aggregate.commands):
            return aggregate
        return replace(aggregate, payment=payment, commands=tuple(map(self._command_if_it_opens, aggregate.commands)))

    def callback(self, callback: Callback) -> Callback:
        """As it is written. Raises Internal without any key: unacknowledged, it comes again when there is one."""
        if _SECRET_NAME not in callback.body:
            return callback
        return replace(callback, body=self._seal_bytes(callback.body, f"{callback.callback_id}/body"))

    def taken(self, taken: TakenCallback) -> TakenCallback:
        """As it came. One whose key is gone stays sealed: unreadable, it rests in quarantine, and can be replayed."""
        opened = self.callback_if_it_opens(taken.callback)
        return taken if opened is taken.callback else replace(taken, callback=opened)

    def callback_if_it_opens(self, callback: Callback) -> Callback:
        """As it came; still sealed where its key is gone."""
        if not callback.body.startswith(SEALED_BYTES):
            return callback
        try:
            return replace(callback, body=self.body(callback.callback_id, callback.body))
        except Internal as error:
            _log.error("callback stays sealed", callback_id=callback.callback_id, why=str(error))
            return callback

    def body(self, callback_id: str, body: bytes) -> bytes:
        """A callback's body as it came. Raises Internal where its key is not configured."""
        return self._open_bytes(body, f"{callback_id}/body") if body.startswith(SEALED_BYTES) else body

    def _command_if_it_opens(self, command: Command) -> Command:
        try:
            return self.command(command)
        except Internal as error:
            _log.error("reply stays sealed", command_id=command.command_id, why=str(error))
            return command

    def _seal(self, value: bytes, row: str) -> str:
        key_id, cipher = self._sealer()
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + cipher.encrypt(nonce, value, row.encode())
        return f"{key_id}:{base64.b64encode(sealed).decode()}"

    def _seal_bytes(self, value: bytes, row: str) -> bytes:
        return SEALED_BYTES + self._seal(value, row).encode()

    def _open_bytes(self, value: bytes, row: str) -> bytes:
        return self._open(value.removeprefix(SEALED_BYTES).decode(), row)

    def _open(self, sealed: str, row: str) -> bytes:
        key_id, _, encoded = sealed.partition(":")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise Internal(
                Reason.INTERNAL, f"{row} is sealed with key {key_id}: put it into secrets.sealing_keys again"
            )
        raw = base64.b64decode(encoded)
        try:
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], row.encode())
        except InvalidTag:
            raise Internal(Reason.INTERNAL, f"{row} does not open with key {key_id}: it was changed or moved") from None

    def _sealer(self) -> tuple[str, AESGCM]:
        if not self._first:
            if self._key_file is None:
                raise Internal(Reason.INTERNAL, "a client secret is never stored unsealed: set secrets.sealing_keys")
            key = _make(self._key_file)
            self._ciphers[key.key_id] = AESGCM(key.key)
            self._first = key.key_id
        return self._first, self._ciphers[self._first]


def _is_sealed(command: Command) -> bool:
    return command.reply is not None and command.reply.startswith(SEALED_BYTES)


def _read(path: Path | None) -> Sequence[SealingKey]:
    if path is None or not path.exists():
        return ()
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ValueError(f"{path} may be read by others: a sealing key is its owner's alone (chmod 600)")
    return (parse_key(path.read_text(encoding="ascii")),)


def _make(path: Path) -> SealingKey:
    """A new key in a file of its own, durable before anything is sealed with it; the one that is there, if one is."""
    key = fresh_key()
    mine = path.with_name(f"{path.name}.{key.key_id}")
    handle = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(f"{key.key_id}:{base64.b64encode(key.key).decode()}\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(mine, path)  # unlike a rename, never over another's
    except FileExistsError:
        return _read(path)[0]
    finally:
        mine.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    _log.warning("made a key for client secrets: keep it with the backups of the database", file=str(path))
    return key
