"""The bytes of a command's reply: made once, stored, and sent as they are, now and at every replay."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from google.protobuf.message import Message

from gateway.app.replies import CommandView
from gateway.rpc.translate import payment_to_proto, refund_to_proto
from obol.v1 import payment_gateway_pb2 as pb


def _refund_response(view: CommandView) -> pb.RefundPaymentResponse:
    if view.refund is None:
        raise ValueError(f"command {view.command_id} is a refund and has none")
    return pb.RefundPaymentResponse(refund=refund_to_proto(view.refund), payment=payment_to_proto(view.payment))


RESPONSES: Mapping[str, Callable[[CommandView], Message]] = MappingProxyType(
    {
        "CreatePayment": lambda view: pb.CreatePaymentResponse(payment=payment_to_proto(view.payment)),
        "ConfirmPayment": lambda view: pb.ConfirmPaymentResponse(payment=payment_to_proto(view.payment)),
        "CapturePayment": lambda view: pb.CapturePaymentResponse(payment=payment_to_proto(view.payment)),
        "AdjustAuthorization": lambda view: pb.AdjustAuthorizationResponse(payment=payment_to_proto(view.payment)),
        "CancelPayment": lambda view: pb.CancelPaymentResponse(payment=payment_to_proto(view.payment)),
        "RefundPayment": _refund_response,
    }
)
"""RPC to its response; every RPC that carries an idempotency key."""

OWN: Mapping[str, Callable[[CommandView], Message]] = MappingProxyType(
    {"CompletePayment": lambda view: pb.GetPaymentResponse(payment=payment_to_proto(view.payment))}
)
"""What the gateway asks of itself: nobody can call it, and its reply is kept as any command's is."""


class ProtoReplyCodec:
    """Implements `gateway.app.replies.ReplyCodec`: deterministic, so equal views give equal bytes."""

    def encode(self, view: CommandView) -> bytes:
        """The response message of `view.rpc`. Raises ValueError for an RPC without a stored reply."""
        response = RESPONSES.get(view.rpc) or OWN.get(view.rpc)
        if response is None:
            raise ValueError(f"RPC {view.rpc!r} has no stored reply")
        return response(view).SerializeToString(deterministic=True)
