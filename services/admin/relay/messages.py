"""Messages of gRPC as JSON: a pydantic model for what comes in, plain values for what goes out.

protobuf's own JSON form is not ours: it writes 64-bit numbers as strings and names in camel case.

What a client must send follows from the proto: a plain field must be there, an `optional` or repeated one may be
left out and a boolean too, which is false then, and of a `oneof` exactly one is given.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from holdfast.common.v1 import public_pb2
from reliability.asgi.fields import written_out

__all__ = ["model_for", "to_json", "to_message"]

_TIMESTAMP: Final = "google.protobuf.Timestamp"
_TYPES: Final[Mapping[int, Any]] = {
    FieldDescriptor.TYPE_STRING: str,
    FieldDescriptor.TYPE_BOOL: bool,
    FieldDescriptor.TYPE_DOUBLE: Annotated[float, Field(allow_inf_nan=False)],
    FieldDescriptor.TYPE_INT32: Annotated[int, Field(ge=-(2**31), lt=2**31)],
    FieldDescriptor.TYPE_INT64: Annotated[int, Field(ge=-(2**63), lt=2**63)],
}


def model_for(
    descriptor: Descriptor, *, leave_out: Collection[str] = (), names: Mapping[str, str] | None = None, strict: bool
) -> type[BaseModel]:
    """A model of the message's fields but those in `leave_out`, some of them called otherwise in JSON.

    `strict` is for JSON, where "yes" is no boolean; the values of a query are all strings. Raises `TypeError`
    for a field of a type that has no JSON form here.
    """
    fields: dict[str, Any] = {
        (names or {}).get(field.name, field.name): _field(field, strict=strict)
        for field in descriptor.fields
        if field.name not in leave_out
    }
    checks: dict[str, Any] = {
        f"_one_{choice.name}": _exactly_one(choice) for choice in descriptor.oneofs if not _is_synthetic(choice)
    }
    model: type[BaseModel] = create_model(
        descriptor.name,
        __config__=ConfigDict(strict=strict),
        __validators__=checks,
        **fields,
    )
    return model


def to_message(descriptor: Descriptor, values: Mapping[str, Any]) -> Message:
    """The message with these values, which a model has checked."""
    return json_format.ParseDict(dict(values), GetMessageClass(descriptor)())


def to_json(message: Message, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Every field of a message, unset ones too: a client need not know what was left out."""
    descriptor = message.DESCRIPTOR
    return {(names or {}).get(field.name, field.name): _value(message, field) for field in descriptor.fields}


def _field(field: Any, *, strict: bool) -> tuple[Any, Any]:
    kind: Any = _type(field, strict=strict)
    if says := field.GetOptions().Extensions[public_pb2.says]:
        kind = Annotated[kind, Field(description=says)]
    if field.is_repeated:
        return list[kind], []
    if field.containing_oneof is not None:  # a real choice, or the one-armed kind that `optional` is
        return kind | None, None
    if field.type == FieldDescriptor.TYPE_BOOL:
        return kind, False
    return kind, ...


def _in_utc(at: datetime) -> datetime:
    """The same instant in UTC, the clock of a time that names none. Raises `ValueError` when there is no such year."""
    try:
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except OverflowError:
        message = "is before the first year or after the last"
        raise ValueError(message) from None


def _type(field: Any, *, strict: bool) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if field.message_type.full_name == _TIMESTAMP:
            return Annotated[datetime, BeforeValidator(written_out), AfterValidator(_in_utc), Field(strict=False)]
        return model_for(field.message_type, strict=strict)
    if field.type not in _TYPES:
        raise TypeError(f"{field.full_name} has a type without a JSON form; add it to _TYPES")
    return _TYPES[field.type]


def _is_synthetic(choice: OneofDescriptor) -> bool:
    """`optional` is compiled to a oneof of one field, by a name of its own (see protobuf's implementing notes)."""
    return len(choice.fields) == 1 and choice.name == f"_{choice.fields[0].name}"


def _exactly_one(choice: OneofDescriptor) -> Any:
    names = [field.name for field in choice.fields]

    def check(self: BaseModel) -> BaseModel:
        if sum(getattr(self, name) is not None for name in names) != 1:
            raise ValueError(f"give exactly one of {', '.join(names)}")
        return self

    return model_validator(mode="after")(check)


def _value(message: Message, field: Any) -> Any:
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    return [_plain(item) for item in value] if field.is_repeated else _plain(value)


def _plain(value: Any) -> Any:
    if not isinstance(value, Message):
        return value
    if value.DESCRIPTOR.full_name == _TIMESTAMP:
        return value.ToDatetime(tzinfo=UTC).isoformat().replace("+00:00", "Z")  # type: ignore[attr-defined]
    return to_json(value)
