"""The models of all routes as JSON Schemas with names people can read."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from reliability.asgi.endpoint import Endpoint

__all__ = ["REFERENCE", "Schemas"]

Json = dict[str, Any]
Mode = Literal["validation", "serialization"]

REFERENCE: Final = "#/components/schemas/{model}"
"""Where a document of OpenAPI 3.1 keeps its schemas."""
_TARGET: Final = re.compile(r'"#/components/schemas/([^"]+)"')


class _Plain(GenerateJsonSchema):
    """Without a title for each field: it says its name again."""

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False


class Schemas:
    """Every model that a route reads or answers with. Equal models of one name become one."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        wanted = list(dict.fromkeys(pair for endpoint in endpoints for pair in _models(endpoint)))
        found, definitions = models_json_schema(wanted, ref_template=REFERENCE, schema_generator=_Plain)
        names = _names(definitions.get("$defs", {}))
        self._of = {pair: _renamed(schema, names) for pair, schema in found.items()}
        self._all = {names[name]: _renamed(schema, names) for name, schema in definitions.get("$defs", {}).items()}

    def of(self, model: type[BaseModel], mode: Mode) -> Json:
        """A reference to the model's schema."""
        return self._of[model, mode]

    def whole(self, model: type[BaseModel]) -> Json:
        """The schema itself of a model that is read."""
        reference = self.of(model, "validation")
        return self._all[reference["$ref"].rpartition("/")[2]] if "$ref" in reference else reference

    def used_by(self, document: Json) -> dict[str, Json]:
        """The schemas that the document refers to, and those they refer to, by name."""
        used: dict[str, Json] = {}
        waiting = _TARGET.findall(json.dumps(document))
        while waiting:
            name = waiting.pop()
            if name in self._all and name not in used:
                used[name] = self._all[name]
                waiting += _TARGET.findall(json.dumps(used[name]))
        return dict(sorted(used.items()))


def _models(endpoint: Endpoint) -> Iterator[tuple[type[BaseModel], Mode]]:
    for read in (endpoint.body, endpoint.query):
        if read is not None:
            yield read, "validation"
    for answered in (endpoint.answer, *endpoint.answers.values()):
        if answered is not None:
            yield answered, "serialization"


def _names(definitions: dict[str, Json]) -> dict[str, str]:
    """Pydantic's name of each model, which may be a whole path, to ours.

    Models of one name that say the same are one; others are told apart by where they come from.
    """
    groups: dict[str, list[str]] = {}
    for name in definitions:
        groups.setdefault(_short(name), []).append(name)
    names: dict[str, str] = {}
    for short, group in groups.items():
        kinds: dict[str, list[str]] = {}
        for name in group:
            kinds.setdefault(_meaning(definitions, name), []).append(name)
        if len(kinds) == 1:
            names |= dict.fromkeys(group, short)
            continue
        taken: set[str] = set()
        for same in kinds.values():
            chosen = _distinct(same[0], short, taken)
            taken.add(chosen)
            names |= dict.fromkeys(same, chosen)
    return names


def _short(name: str) -> str:
    """`services__orders__cart__schemas__Money-Output__2` is Money."""
    parts = [part for part in name.split("__") if not part.isdigit()]
    return parts[-1].partition("-")[0]


def _distinct(name: str, short: str, taken: set[str]) -> str:
    words = [part for part in name.split("__") if not part.isdigit()][:-1]
    words = [word for word in words if word not in {"services", "schemas", "routes", "messages"}]
    base = "".join(word.title().replace("_", "") for word in words) + short
    if "-" in name:
        base += name.partition("-")[2].partition("__")[0]
    chosen, number = base, 2
    while chosen in taken:
        chosen, number = f"{base}{number}", number + 1
    return chosen


def _meaning(definitions: dict[str, Json], name: str, seen: tuple[str, ...] = ()) -> str:
    """The schema as text with what it refers to written out, so that equal ones are equal."""
    if name in seen:
        return f"recursion {len(seen) - seen.index(name)}"
    text = json.dumps(definitions[name], sort_keys=True)
    return _TARGET.sub(lambda found: _meaning(definitions, found[1], (*seen, name)), text)


def _renamed(schema: Json, names: dict[str, str]) -> Json:
    text = _TARGET.sub(lambda found: f'"{REFERENCE.format(model=names[found[1]])}"', json.dumps(schema))
    renamed: Json = json.loads(text)
    return renamed
