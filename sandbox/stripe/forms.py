"""Stripe's form encoding: `a[b][0][c]=value`, decoded into a tree and read with types.

Every reader raises `InvalidParameter` naming the parameter as the client wrote it.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NoReturn
from urllib.parse import parse_qsl

from sandbox.stripe.errors import InvalidParameter, Json

Node = str | dict[str, "Node"]

_NAME = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
_PART = re.compile(r"\[([^\[\]]*)\]")
_MAX_FIELDS = 2000
_MAX_DEPTH = 8


def decode(encoded: str) -> "Params":
    """Decode a query string or a form body."""
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise InvalidParameter("Invalid request: the form could not be decoded as UTF-8 key=value pairs.") from error
    root: dict[str, Node] = {}
    for name, value in pairs:
        _insert(root, name, value)
    return Params(root)


def _insert(root: dict[str, Node], name: str, value: str) -> None:
    match = _NAME.match(name)
    if match is None:
        raise InvalidParameter(f"Invalid request: malformed parameter name {name[:100]!r}.")
    steps = [match[1], *_PART.findall(match[2])]
    if len(steps) > _MAX_DEPTH:
        raise InvalidParameter(f"Invalid request: {name[:100]!r} is nested too deeply.")
    node = root
    for step in steps[:-1]:
        child = node.setdefault(step or str(len(node)), {})
        if isinstance(child, str):
            _mixed(name)
        node = child
    if isinstance(node.get(steps[-1]), dict):
        _mixed(name)
    node[steps[-1] or str(len(node))] = value


def _mixed(name: str) -> NoReturn:
    raise InvalidParameter(f"Invalid request: {name[:100]!r} is given both as a value and as a hash.")


class Params:
    """The parameters of a call, or of one hash inside them."""

    def __init__(self, values: Mapping[str, Node] | None = None, path: str = "") -> None:
        self._values: dict[str, Node] = dict(values or {})
        self._path = path

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def name(self, key: str) -> str:
        """The parameter as the client wrote it."""
        return f"{self._path}[{key}]" if self._path else key

    def tree(self) -> Mapping[str, Node]:
        """The decoded values, for fingerprints and for objects that are only echoed."""
        return self._values

    def allow(self, known: Collection[str]) -> None:
        """Refuse every parameter that the endpoint does not know."""
        unknown = [key for key in self._values if key not in known]
        if unknown:
            names = ", ".join(self.name(key) for key in unknown)
            plural = "s" if len(unknown) > 1 else ""
            message = f"Received unknown parameter{plural}: {names}"
            raise InvalidParameter(message, code="parameter_unknown", param=self.name(unknown[0]))

    def require(self, *keys: str) -> None:
        """Refuse a call that leaves one of these out."""
        for key in keys:
            if key not in self._values:
                name = self.name(key)
                raise InvalidParameter(f"Missing required param: {name}.", code="parameter_missing", param=name)
            if self._values[key] == "":
                self.refuse(key, "You passed an empty string. It cannot be unset.", "parameter_invalid_empty")

    def refuse(self, key: str, message: str, code: str | None = None) -> NoReturn:
        """Refuse the value of one parameter."""
        raise InvalidParameter(message, code=code, param=self.name(key))

    def text(self, key: str, *, limit: int = 5000) -> str | None:
        """A string; empty means unset."""
        value = self._values.get(key, "")
        if not isinstance(value, str):
            self.refuse(key, f"Invalid string: {self.name(key)} must be a string.", "parameter_invalid_string")
        if len(value) > limit:
            self.refuse(
                key, f"Invalid string: {self.name(key)} must be at most {limit} characters.", "parameter_too_long"
            )
        return value or None

    def integer(self, key: str) -> int | None:
        """A whole number."""
        value = self.text(key)
        if value is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            self.refuse(key, f"Invalid integer: {value[:50]}", "parameter_invalid_integer")
        return int(value)

    def boolean(self, key: str) -> bool:
        """`true` or `false`; false when absent."""
        value = self.text(key)
        if value not in {None, "true", "false"}:
            self.refuse(key, f"Invalid boolean: {value}", "parameter_invalid_boolean")
        return value == "true"

    def choice(self, key: str, options: Collection[str]) -> str | None:
        """One of the given words."""
        value = self.text(key)
        if value is not None and value not in options:
            known = ", ".join(sorted(options))
            self.refuse(key, f"Invalid {self.name(key)}: must be one of {known}", "parameter_invalid_enum")
        return value

    def child(self, key: str) -> "Params | None":
        """A hash; empty string means unset."""
        value = self._values.get(key, "")
        if isinstance(value, dict):
            return Params(value, self.name(key))
        if value:
            self.refuse(key, f"Invalid object: {self.name(key)} must be a hash.", "parameter_invalid_hash")
        return None

    def children(self, key: str) -> list["Params"]:
        """An array of hashes."""
        array = self.child(key)
        return [item for index in array if (item := array.child(index))] if array else []

    def texts(self, key: str) -> list[str]:
        """An array of strings."""
        array = self.child(key)
        return [text for index in array if (text := array.text(index))] if array else []

    def metadata(self, before: Mapping[str, str] | None = None) -> dict[str, str]:
        """The metadata after this call: keys are merged into those before, an empty value removes its key."""
        given = self.child("metadata")
        if given is None:
            return {} if "metadata" in self else dict(before or {})
        merged = dict(before or {})
        for key in given:
            merged[key] = given.text(key, limit=500) or ""
        kept = {key: value for key, value in merged.items() if value}
        if len(kept) > 50 or any(len(key) > 40 for key in kept):
            self.refuse("metadata", "Metadata can hold up to 50 keys of up to 40 characters each.")
        return kept


def echo(params: Params | None) -> Json | None:
    """A hash that is stored and answered as it came, arrays as arrays."""
    return None if params is None else {key: _plain(node) for key, node in params.tree().items()}


def _plain(node: Node) -> str | bool | Json | list[object]:
    if isinstance(node, str):
        return node == "true" if node in {"true", "false"} else node
    if node and all(key.isdigit() for key in node):
        return [_plain(child) for child in node.values()]
    return {key: _plain(child) for key, child in node.items()}


def names(*groups: str | Iterable[str]) -> frozenset[str]:
    """Parameter names, written as one string with spaces; `expand` is always among them."""
    words = (group.split() if isinstance(group, str) else group for group in groups)
    return frozenset({"expand"}.union(*words))
