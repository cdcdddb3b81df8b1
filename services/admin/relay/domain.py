"""What a relayed route is."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, MethodDescriptor

__all__ = ["STAFF_ID", "RpcRoute"]

STAFF_ID = "staff_id"
"""The field every owner calls the member of staff; never read from the request."""


@dataclass(frozen=True, slots=True)
class RpcRoute:
    """A public route and the RPC behind it.

    `id_field` is the message field the public calls `id`, in the path and in the answer. A route with `once`
    lets the same request through once in so many seconds, whoever asks. One that is `keyed` moves money: it must come
    with an Idempotency-Key. `unwrap` names the field of the RPC's answer that is the whole answer in public.
    """

    method: str
    path: str
    permission: str
    rpc: MethodDescriptor
    status: int = 200
    id_field: str = ""
    once: int = 0
    keyed: bool = False
    unwrap: str = ""

    @property
    def request(self) -> Descriptor:
        """The request message."""
        return self.rpc.input_type

    @property
    def answer(self) -> Descriptor:
        """The message that the public gets."""
        whole: Descriptor = self.rpc.output_type
        part = whole.fields_by_name[self.unwrap].message_type if self.unwrap else None
        return part or whole

    @property
    def step(self) -> str:
        """The call's name in traces and errors, "notifications.SendCampaign" say."""
        return f"{self.rpc.containing_service.full_name.split('.')[1]}.{self.rpc.name}"

    @property
    def names(self) -> Mapping[str, str]:
        """What answers call a field otherwise than its proto does."""
        return {self.id_field: "id"} if self.id_field else {}
