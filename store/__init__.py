"""The store: everything durable, behind the port in `gateway.domain.storage`. SQL lives here alone."""

from store.migrate import Schema, SchemaBehind, SchemaBeyond
from store.open import open_store

__all__ = ["Schema", "SchemaBehind", "SchemaBeyond", "open_store"]
