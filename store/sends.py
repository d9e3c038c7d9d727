# Conditions are spelled from our own tables and constants; every value is a parameter.
# ruff: noqa: S608
"""What a claim and a resend ask of a database that may have been restored from a backup, as conditions of SQL.

They stand in the statement that starts the send, so that a process that was running before the restore was declared
sees it as well. On PostgreSQL the declaration takes `cautions` and `restores` ACCESS EXCLUSIVE: a statement that read
them before has committed by then, and one that comes later sees the new row.

A database that was never restored has no caution, and a claim on PostgreSQL asks for nothing else: each table more
would cost it some 10 microseconds, empty or not. Where it finds one it is sent again with all the conditions.
"""

CAUTION = "EXISTS (SELECT 1 FROM cautions)"
"""There is something to ask about."""

TAKEN_UP_STATES = ("NOT_SENT", "SENDING", "UNKNOWN")
"""Of a command whose step is taken up as sent: a restore may have taken it back to any of them, or a look since."""

STATE_TAKEN_UP = "CASE state WHEN 'NOT_SENT' THEN 'SENDING' ELSE state END"
"""What such a command is then: one of which nothing was sent is under way, one that was told as UNKNOWN stays so."""

SKEW_US = 600_000_000
"""What seems made or claimed this long after a restore was declared, or earlier, may be from before it.

Both times are the database's own. But what a backup has was timed by the machine that it was taken of, and the
declaration by the one that it was put back on, whose clock may be behind.
"""


def held(account: str) -> str:
    """Some restore still waits for its reconciliation at `account`, which is an expression of SQL, as all here."""
    return (
        "EXISTS (SELECT 1 FROM restores h WHERE NOT EXISTS (SELECT 1 FROM restore_clearances e "
        f"WHERE e.account_id = {account} AND e.generation = h.generation))"
    )


def lost(tenant: str, operation: str, order: str) -> str:
    """The operation took effect, or its order was paid, and what this database knew of it was lost.

    `order` is NULL where it was not declared unique. What was taken up since is known again: its payment has the order.
    """
    taken_up = (
        "EXISTS (SELECT 1 FROM operations t WHERE t.tenant_id = l.tenant_id AND t.operation_id = l.operation_id "
        "AND t.account_id = l.account_id)"
    )
    return (
        f"(EXISTS (SELECT 1 FROM lost_operations l WHERE l.tenant_id = {tenant} AND l.operation_id = {operation}) OR "
        f"EXISTS (SELECT 1 FROM lost_operations l WHERE l.tenant_id = {tenant} AND l.order_reference = {order} "
        f"AND NOT {taken_up}))"
    )


def lost_to(operation: str) -> str:
    """The row `operation` is lost at another account, or, of a create, anything of its payment or its order is."""
    create = f"{operation}.kind = 'CREATE'"
    order = (
        f"(SELECT p.unique_order_reference FROM payments p WHERE {create} AND p.tenant_id = {operation}.tenant_id "
        f"AND p.payment_id = {operation}.payment_id)"
    )
    return (
        f"({lost(f'{operation}.tenant_id', f'{operation}.operation_id', order)} OR ({create} AND "
        f"{lost_of(f'{operation}.tenant_id', f'{operation}.payment_id')}))"
    )


def lost_of(tenant: str, payment: str) -> str:
    """Something of the payment is lost: of a create that is to be sent again, a later step that went elsewhere."""
    return f"EXISTS (SELECT 1 FROM lost_operations l WHERE l.tenant_id = {tenant} AND l.payment_id = {payment})"


def lost_at(tenant: str, operation: str, account: str) -> str:
    """The operation took effect at this very account, and what this database knew of it was lost."""
    return (
        f"EXISTS (SELECT 1 FROM lost_operations l WHERE l.tenant_id = {tenant} AND l.operation_id = {operation} "
        f"AND l.account_id = {account})"
    )


def unread(payment: str) -> str:
    """The row `payment` is from before a restore, and its provider was not asked about it since."""
    return (
        f"EXISTS (SELECT 1 FROM restores h WHERE {payment}.created_time_us < h.raised_time_us + {SKEW_US} "
        f"AND NOT EXISTS (SELECT 1 FROM restore_reads d WHERE d.tenant_id = {payment}.tenant_id "
        f"AND d.payment_id = {payment}.payment_id AND d.generation = h.generation))"
    )


def unlooked(known: str) -> str:
    """A restore was declared that nobody asked about for a new payment: up to generation `known` somebody has.

    Later steps of a create whose row is lost are known by ids that are functions of its key, which only its caller has.
    NULL: nobody need have asked.
    """
    return f"EXISTS (SELECT 1 FROM restores h WHERE h.generation > {known})"


def before_restore(time_us: str) -> str:
    """What was claimed at `time_us` was, or may have been, claimed before a restore was declared.

    Its caller may have been told how it ended in the time that was lost, and have acted on that: paid with another key,
    or asked for the refund again. So nothing sends it again of its own accord.
    """
    return f"EXISTS (SELECT 1 FROM restores h WHERE {time_us} < h.raised_time_us + {SKEW_US})"


def begun_before_restore(tenant: str, payment: str, command: str) -> str:
    """The same of a command, by the first claim of it."""
    return (
        f"EXISTS (SELECT 1 FROM operations b WHERE b.tenant_id = {tenant} AND b.payment_id = {payment} "
        f"AND b.command_id = {command} AND {before_restore('b.claimed_time_us')})"
    )


def why_held(
    account: str, tenant: str, payment: str, operation: str, order: str, tried_again: str, restores_known: str
) -> str:
    """A statement of one row: the name of the `ClaimOutcome` that holds a claim back or NULL, and whether CAUTION.

    `tried_again` is the payment of a create that was not sent, else NULL; `restores_known` of a new payment, else NULL.
    """
    return (
        f"SELECT CASE WHEN {held(account)} THEN 'RESTORE_PENDING' "
        f"WHEN {lost(tenant, operation, order)} OR {lost_of(tenant, tried_again)} THEN 'LOST_IN_RESTORE' "
        f"WHEN {unlooked(restores_known)} OR EXISTS (SELECT 1 FROM payments p WHERE p.tenant_id = {tenant} "
        f"AND p.payment_id = {payment} AND {unread('p')}) THEN 'UNREAD_SINCE_RESTORE' END, {CAUTION}"
    )
