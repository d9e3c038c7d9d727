"""What operators see: nothing is cut off, and no text from elsewhere steers the terminal."""

import json

import pytest

from gateway.cli import tables
from obol.v1 import operations_pb2 as ops
from obol.v1 import payment_pb2
from obol.v1.money_pb2 import Money

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
LONG_ID = "cmd_" + "0123456789abcdef" * 2


def item() -> ops.UnresolvedItem:
    """An alarmed operation with a proposal, and everywhere a text that would steer a terminal."""
    operation = ops.UnresolvedOperation(
        command_id=LONG_ID,
        payment_id="pay_" + "f" * 32,
        kind=payment_pb2.COMMAND_KIND_REFUND,
        state=payment_pb2.COMMAND_STATE_UNKNOWN,
        amount=Money(amount_minor=400, currency_code="EUR"),
        failure=f"[bold]{ESCAPE}seen[/bold]",
        alarmed=True,
        proposal=ops.Proposal(actor="ann", resolution=ops.RESOLUTION_EXECUTED, reason="r" * 400, proposal_id="prp_1"),
    )
    return ops.UnresolvedItem(operation=operation, tenant_id="acme", age_seconds=90_000)


def test_a_table_shows_ids_whole_and_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Folded where a line ends; markup and escapes are characters like others."""
    tables.print_rows("items", [item()], more=True)
    said = capsys.readouterr().out
    assert LONG_ID in said
    assert "REFUND UNKNOWN ALARM" in said
    assert "[bold]" in said
    assert "\x1b" not in said
    assert "\x07" not in said
    assert said.replace("\n", "").replace(" ", "").count("r" * 10) >= 1
    assert "1 d" in said
    assert "--limit" in said


def test_an_empty_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """No table without rows."""
    tables.print_rows("callbacks", [], more=False)
    assert capsys.readouterr().out.strip() == "no callbacks"


def test_json_is_one_document_by_the_contracts_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Fields that are empty are there as well, so that a program can rely on them."""
    tables.print_json({"items": [tables.plain(item())]})
    (row,) = json.loads(capsys.readouterr().out)["items"]
    assert row["operation"]["command_id"] == LONG_ID
    assert row["operation"]["provider"] == ""
    assert row["age_seconds"] == "90000"


@pytest.mark.parametrize(
    ("what", "response", "options", "said"),
    [
        (
            "replay",
            ops.ReplayCallbackResponse(callback=ops.ReceivedCallback(state=ops.CALLBACK_STATE_APPLIED)),
            {"dry_run": True},
            "counts once",
        ),
        (
            "replay",
            ops.ReplayCallbackResponse(callback=ops.ReceivedCallback(state=ops.CALLBACK_STATE_IGNORED), replayed=True),
            {"dry_run": True},
            "would be IGNORED",
        ),
        (
            "resolution",
            ops.ResolveCommandResponse(
                proposal=ops.Proposal(proposal_id="prp_1", resolution=ops.RESOLUTION_NOT_EXECUTED),
                command=payment_pb2.CommandSummary(command_id="cmd_1"),
            ),
            {"tenant": "acme"},
            "obol resolve cmd_1 --tenant acme --not-executed --approve prp_1",
        ),
        ("timeline", ops.ExplainPaymentResponse(truncated=True), {"details": False}, "left out"),
    ],
)
def test_each_answer_is_told_in_words(
    capsys: pytest.CaptureFixture[str], what: str, response: object, options: dict[str, bool | str], said: str
) -> None:
    """What was done, or what to do next."""
    tables.print_one(what, response, **options)
    assert said in capsys.readouterr().out
