"""The operators' client: one method for each RPC of Operations, the request in, the response out, errors typed."""

from typing import Unpack

import grpc

from obol.client.calls import COMMAND_TIMEOUT_S, READ_TIMEOUT_S, CallOptions
from obol.client.context import Operator
from obol.client.gateway import answer
from obol.v1 import operations_pb2 as ops
from obol.v1.operations_pb2_grpc import OperationsStub


class OperationsClient:
    """Operations, in an operator's name. Thread-safe; the channel stays its maker's to close.

    Every method raises GatewayError. None sends a command to a provider, so that each may be repeated.
    """

    def __init__(self, channel: grpc.Channel, operator: Operator | None = None) -> None:
        self._stub = OperationsStub(channel)
        self._operator = operator

    def list_providers(
        self, request: ops.ListProvidersRequest, /, **options: Unpack[CallOptions]
    ) -> ops.ListProvidersResponse:
        """The configured accounts, what they can do, and how their breakers stand."""
        return answer(self._stub.ListProviders, request, self._operator, options, READ_TIMEOUT_S, command=False)

    def set_provider_mode(
        self, request: ops.SetProviderModeRequest, /, **options: Unpack[CallOptions]
    ) -> ops.SetProviderModeResponse:
        """Set what may be sent to an account."""
        return answer(self._stub.SetProviderMode, request, self._operator, options, COMMAND_TIMEOUT_S, command=False)

    def list_callbacks(
        self, request: ops.ListCallbacksRequest, /, **options: Unpack[CallOptions]
    ) -> ops.ListCallbacksResponse:
        """A page of received callbacks, newest first."""
        return answer(self._stub.ListCallbacks, request, self._operator, options, READ_TIMEOUT_S, command=False)

    def replay_callback(
        self, request: ops.ReplayCallbackRequest, /, **options: Unpack[CallOptions]
    ) -> ops.ReplayCallbackResponse:
        """Apply a kept callback once more, or see what that would do."""
        return answer(self._stub.ReplayCallback, request, self._operator, options, COMMAND_TIMEOUT_S, command=False)

    def list_unresolved(
        self, request: ops.ListUnresolvedRequest, /, **options: Unpack[CallOptions]
    ) -> ops.ListUnresolvedResponse:
        """A page of what has not come to an end, oldest first."""
        return answer(self._stub.ListUnresolved, request, self._operator, options, READ_TIMEOUT_S, command=False)

    def resolve_command(
        self, request: ops.ResolveCommandRequest, /, **options: Unpack[CallOptions]
    ) -> ops.ResolveCommandResponse:
        """Propose how an UNKNOWN command ended, or approve another operator's proposal."""
        return answer(self._stub.ResolveCommand, request, self._operator, options, COMMAND_TIMEOUT_S, command=False)

    def explain_payment(
        self, request: ops.ExplainPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> ops.ExplainPaymentResponse:
        """Everything that is known of a payment, as one timeline."""
        return answer(self._stub.ExplainPayment, request, self._operator, options, READ_TIMEOUT_S, command=False)

    def list_audit_records(
        self, request: ops.ListAuditRecordsRequest, /, **options: Unpack[CallOptions]
    ) -> ops.ListAuditRecordsResponse:
        """A page of the audit trail, newest first; few records do not mean the end."""
        return answer(self._stub.ListAuditRecords, request, self._operator, options, READ_TIMEOUT_S, command=False)

    def run_reconciliation(
        self, request: ops.RunReconciliationRequest, /, **options: Unpack[CallOptions]
    ) -> ops.RunReconciliationResponse:
        """Have a window of the provider's records compared with ours; its key makes a repetition the same one."""
        return answer(self._stub.RunReconciliation, request, self._operator, options, COMMAND_TIMEOUT_S, command=False)

    def get_reconciliation(
        self, request: ops.GetReconciliationRequest, /, **options: Unpack[CallOptions]
    ) -> ops.GetReconciliationResponse:
        """A reconciliation with a page of its breaks."""
        return answer(self._stub.GetReconciliation, request, self._operator, options, READ_TIMEOUT_S, command=False)

    def list_reconciliations(
        self, request: ops.ListReconciliationsRequest, /, **options: Unpack[CallOptions]
    ) -> ops.ListReconciliationsResponse:
        """A page of reconciliations, newest first."""
        return answer(self._stub.ListReconciliations, request, self._operator, options, READ_TIMEOUT_S, command=False)

    def list_lost_payments(
        self, request: ops.ListLostPaymentsRequest, /, **options: Unpack[CallOptions]
    ) -> ops.ListLostPaymentsResponse:
        """A page of payments that a restore from backup lost."""
        return answer(self._stub.ListLostPayments, request, self._operator, options, READ_TIMEOUT_S, command=False)

    def settle_lost_payment(
        self, request: ops.SettleLostPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> ops.SettleLostPaymentResponse:
        """Propose what became of a lost payment by hand, or approve another operator's proposal."""
        return answer(self._stub.SettleLostPayment, request, self._operator, options, COMMAND_TIMEOUT_S, command=False)
