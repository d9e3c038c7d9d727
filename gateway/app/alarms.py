"""Alarms: an operation that is unresolved for too long is told of, once, whatever the number of processes and looks."""

import structlog

from gateway.app.clock import new_id
from gateway.app.settings import EngineSettings
from gateway.app.telemetry import Telemetry
from gateway.domain.commands import Caller, Operation
from gateway.domain.storage import AuditRecord, Store

ALARMS_BATCH = 100
ACTOR = "system:alarm"

_log = structlog.get_logger(__name__)


class Alarms:
    """Finds what is SENDING or UNKNOWN past `unresolved_alarm_s`, and says so in a log line, a metric and the audit."""

    def __init__(self, store: Store, telemetry: Telemetry, settings: EngineSettings) -> None:
        self._store = store
        self._telemetry = telemetry
        self._settings = settings

    async def run_once(self) -> int:
        """Tell of what nobody was told of yet; of how many. Raises Unavailable."""
        alarm_s = self._settings.unresolved_alarm_s
        raised = await self._store.raise_alarms(_record, older_than_s=alarm_s, limit=ALARMS_BATCH)
        for operation in raised:
            self._telemetry.alarm(operation.provider, operation.kind)
            _log.error(
                "unresolved for too long: see `obol unresolved` and `obol explain`",
                operation_id=operation.operation_id,
                command_id=operation.command_id,
                payment_id=operation.payment_id,
                tenant_id=operation.tenant_id,
                kind=operation.kind,
                state=operation.state,
                account_id=operation.account_id,
                failure=operation.failure,
                longer_than_s=alarm_s,
            )
        return len(raised)


def _record(operation: Operation) -> AuditRecord:
    return AuditRecord(
        audit_id=new_id("aud"),
        caller=Caller(operation.tenant_id, "", ACTOR, ""),
        action="ALARM",
        result=operation.state,
        failure=operation.failure,
        provider=operation.provider,
        account_id=operation.account_id,
        payment_id=operation.payment_id,
        command_id=operation.command_id,
        detail="unresolved for too long",
    )
