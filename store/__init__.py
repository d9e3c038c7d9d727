"""The store: everything durable, behind the port in `gateway.domain.storage`. SQL lives here alone."""

from store.migrate import Schema, SchemaBehind, SchemaBeyond
from store.open import open_store
from store.sealing import Sealing, SealingKey, fresh_key, parse_key

__all__ = [
    "Schema",
    "SchemaBehind",
    "SchemaBeyond",
    "Sealing",
    "SealingKey",
    "fresh_key",
    "open_store",
    "parse_key",
]
