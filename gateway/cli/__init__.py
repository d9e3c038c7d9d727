"""The `obol` command. Every command loads its world only when it is called.

So help is quick, and a supervisor can fork before gRPC is loaded.
"""

import typer

from gateway.cli import checking, operations, serving
from gateway.cli.lost import lost_app
from gateway.cli.reconcile import reconcile_command
from gateway.cli.reconciliations import reconciliations_command
from gateway.cli.restore import restore_command

app = typer.Typer(
    help="Obol, a payment gateway: one contract in front of many providers, at most one effect for each command.",
    no_args_is_help=True,
    # A traceback with local variables could show a secret.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

serving.register(app)
checking.register(app)
operations.register(app)
app.add_typer(lost_app, name="lost")
app.command("reconcile")(reconcile_command)
app.command("reconciliations")(reconciliations_command)
app.command("restore")(restore_command)


def main() -> None:
    """The entry point of the `obol` script."""
    app()
