"""A provider's effect log as verify reads it: by our operation, else by the key that the request was sent under."""

import json
from pathlib import Path
from typing import Any

from store.effect_book import EffectBook


def line(n: int, kind: str, effect_id: str, **told: Any) -> str:
    """One line of a log."""
    known = {"payment": "pi_1", "amount": 100, "currency": "EUR", "account": "acct_main", "operation": None, "time": 1}
    return json.dumps({"n": n, "kind": kind, "id": effect_id, **known, **told}) + "\n"


def test_an_effect_belongs_to_an_operation_by_its_id_or_by_its_key(tmp_path: Path) -> None:
    """A void that bears no id of ours is the cancel's that was sent under its key; a stranger's is nobody's."""
    log = tmp_path / "effects.jsonl"
    log.write_text(
        line(1, "authorization", "ch_1", operation="op_create", idempotency_key="key-create")
        + line(2, "void", "ch_1", idempotency_key="key-cancel")
        + line(3, "void", "ch_2", idempotency_key="key-of-another")
        + line(4, "refund", "re_1", idempotency_key=None)
    )
    with EffectBook(log) as book:
        keys = {"op_create": "key-create", "op_cancel": "key-cancel", "op_unsent": ""}
        found = book.of_operations(keys)
        assert {operation: [each.number for each in effects] for operation, effects in found.items()} == {
            "op_create": [1],
            "op_cancel": [2],
        }
        # By either way it is found once.
        assert [len(effects) for effects in book.of_operations({"op_create": "key-create"}).values()] == [1]


def test_what_a_later_line_reverses_is_taken_back(tmp_path: Path) -> None:
    """Of this account and after it alone."""
    log = tmp_path / "effects.jsonl"
    log.write_text(
        line(1, "reversal", "re_early")
        + line(2, "refund", "re_early", operation="op_1")
        + line(3, "refund", "re_back", operation="op_2")
        + line(4, "reversal", "re_back")
        + line(5, "refund", "re_other", operation="op_3")
        + line(6, "reversal", "re_other", account="acct_other")
    )
    with EffectBook(log) as book:
        found = book.of_operations(dict.fromkeys(("op_1", "op_2", "op_3"), ""))
        assert {operation: effects[0].taken_back for operation, effects in found.items()} == {
            "op_1": False,
            "op_2": True,
            "op_3": False,
        }
