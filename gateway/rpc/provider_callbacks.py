"""`obol.v1.ProviderCallbacks`: translates, and nothing else."""

from gateway.app.callbacks import Callbacks, Delivery
from gateway.rpc.context import Call
from gateway.rpc.reading import time_us_of
from obol.v1 import provider_callbacks_pb2 as pb


class ProviderCallbacks:
    """Takes in what the sidecar has verified."""

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks

    async def DeliverCallback(self, request: pb.DeliverCallbackRequest, call: Call) -> pb.DeliverCallbackResponse:
        received = request.HasField("receive_time")
        delivery = Delivery(
            provider=request.provider,
            account_id=request.account_id,
            event_id=request.event_id,
            event_type=request.event_type,
            body=request.body,
            headers=dict(request.headers),
            receive_time_us=time_us_of(request.receive_time, "receive_time") if received else 0,
        )
        callback_id, duplicate = await self._callbacks.deliver(call.caller, delivery)
        return pb.DeliverCallbackResponse(callback_id=callback_id, duplicate=duplicate)
