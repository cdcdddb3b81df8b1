"""The part of Stripe's search query language that finds objects by metadata and plain fields.

    metadata['order_id']:'o-1' AND status:'succeeded'        amount>1000        -currency:'eur'

Stripe's index lags by up to a minute; this one never does.
"""

import re
from collections.abc import Mapping

from sandbox.stripe.errors import Json
from sandbox.stripe.forms import Params, names
from sandbox.stripe.ledger import Call
from sandbox.stripe.store import Condition, Page, field

PARAMS = names("query limit page")

Fields = Mapping[str, type[int] | type[str]]
"""What a resource can be searched by, and of which type it is."""

_TERM = re.compile(
    r"""(?P<not>-)?(?:metadata\[(?P<quote>["'])(?P<key>[^"'\\]{1,40})(?P=quote)\]|(?P<field>[a-z_]+))"""
    r"""(?P<operator>:|~|>=|<=|>|<)"""
    r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<number>-?\d{1,18})|null)"""
)
_JOIN = re.compile(r"\s+(?:(AND|OR)\s+)?")


def run(call: Call, kind: str, url: str, fields: Fields) -> Json:
    """Answer a search."""
    params = call.params
    params.require("query")
    page = Page(Page.of(params).limit, starting_after=params.text("page"))
    items, more = call.ledger.store.page(kind, page, [field("deleted", None), parse(params, fields)])
    next_page = items[-1]["id"] if more else None
    return {"object": "search_result", "data": items, "has_more": more, "next_page": next_page, "url": url}


def parse(params: Params, fields: Fields) -> Condition:
    """Turn the query into one condition; terms are joined by AND (or nothing), or all by OR."""
    query = (params.text("query", limit=10_000) or "").strip()
    terms, joins, position = [], set(), 0
    while True:
        term = _TERM.match(query, position)
        if term is None:
            params.refuse("query", f"We were unable to parse your search query at position {position}: {query!r}")
        terms.append(_condition(params, term, fields))
        if term.end() == len(query):
            break
        join = _JOIN.match(query, term.end())
        if join is None:
            params.refuse("query", f"We were unable to parse your search query at position {term.end()}: {query!r}")
        joins.add(join[1] or "AND")
        position = join.end()
    if len(joins) > 1:
        params.refuse("query", "You may not combine AND and OR in one search query.")
    joined = f" {joins.pop() if joins else 'AND'} ".join(term.sql for term in terms)
    return Condition(f"({joined})", tuple(value for term in terms for value in term.values))


def _condition(params: Params, term: re.Match[str], fields: Fields) -> Condition:
    name = term["field"]
    if name is not None and name not in fields:
        params.refuse("query", f"Field `{name}` is an unsupported search field for this resource.")
    numeric = name is not None and fields[name] is int
    if term["operator"] in {">", "<", ">=", "<="} and not numeric:
        params.refuse("query", f"The operator {term['operator']} is only supported for numeric fields.")
    path = f"$.{name}" if name else f'$.metadata."{term["key"]}"'
    value = _value(params, term, numeric=numeric)
    compared = {":": "json_extract(body, ?) IS ?", "~": "instr(lower(json_extract(body, ?)), lower(?)) > 0"}.get(
        term["operator"], f"json_extract(body, ?) {term['operator']} ?"
    )
    return Condition(f"{'NOT ' if term['not'] else ''}coalesce({compared}, 0)", (path, value))


def _value(params: Params, term: re.Match[str], *, numeric: bool) -> str | int | None:
    quoted = term["double"] if term["double"] is not None else term["single"]
    text = term["number"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    if not numeric or text is None:
        return text
    if not re.fullmatch(r"-?\d{1,18}", text):
        params.refuse("query", f"The value {text!r} must be a number.")
    return int(text)
