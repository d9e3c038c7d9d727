"""Stripe's own OpenAPI document, and what an exchange breaks of it, in both directions.

The document is of 2023-08-16. What is newer is on a short list, each with its reason. Absent, nothing is checked: tests
that are about it are skipped with ABSENT, and those that would be checked besides (`tests/exchanges.py`) run without.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jsonschema import Draft4Validator
from referencing import Registry
from referencing.jsonschema import DRAFT4

from simulators.stripe.settings import Heard

FOLDER = Path(__file__).resolve().parents[1].parent / "shared" / "third_party" / "stripe_openapi"
ABSENT = "../shared/third_party/stripe_openapi is not there: Stripe's own document cannot be asked"

NEWER: Mapping[str, str] = {
    "POST /v1/payment_intents/{intent}/capture final_capture": "multiple captures became public after the document",
    "POST /v1/payment_intents payment_method_options[card][request_multicapture]": "the same",
    "POST /v1/payment_intents payment_method_options[card][request_incremental_authorization]": "the same",
}
"""Parameters that we send and the document does not know yet."""

INVENTED = {
    0: "nobody answered what a test made up",
    400: "a test asked for something malformed",
    401: "a test had no key",
    404: "a test asked for an id that it made up",
    413: "a test sent too much",
}
"""Statuses of an exchange that a test itself made up, whose request is not validated, each with the reason."""

URN = "urn:stripe"

Schema = Mapping[str, Any]


@cache
def document() -> "StripeDocument | None":
    """The document, read once; None where it is absent."""
    path = FOLDER / "spec3-2023-08-16.json"
    return StripeDocument(json.loads(path.read_bytes())) if path.exists() else None


@cache
def fixtures() -> Mapping[str, Mapping[str, Any]]:
    """Stripe's own sample resources by name, of 2026-07-29; none where they are absent."""
    path = FOLDER / "fixtures3-2026-07-29.json"
    found: Mapping[str, Mapping[str, Any]] = json.loads(path.read_bytes())["resources"] if path.exists() else {}
    return found


class StripeDocument:
    """Answers what an exchange breaks."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._spec = spec = _plain(told)
        self._registry: Registry[Any] = Registry().with_resource(URN, DRAFT4.create_resource(spec))
        self._paths = [(_pattern(path), path) for path in spec["paths"]]

    def broken(self, heard: Heard, *, made_up: bool = False) -> list[str]:
        """What the exchange breaks, one line each. `made_up`: by a test, which may ask for what is wrong."""
        operation, where = self._operation(heard)
        excused = made_up and heard.status in INVENTED
        if operation is None:
            return [] if excused else [f"{where}: the document has no such path"]
        found = [] if excused else list(self._of_request(heard, operation, where))
        return [*found, *(self._of_answer(heard, operation, where) if heard.status else ())]

    def _operation(self, heard: Heard) -> tuple[Schema | None, str]:
        # A path without a parameter goes before one with: /search is no id.
        found = [path for pattern, path in self._paths if pattern.fullmatch(heard.path)]
        path = min(found, key=lambda each: each.count("{"), default="")
        method = heard.method.lower()
        return self._spec["paths"].get(path, {}).get(method), f"{heard.method} {path or heard.path}"

    def _of_request(self, heard: Heard, operation: Schema, where: str) -> Iterator[str]:
        if heard.method == "POST":
            content = operation["requestBody"]["content"].get("application/x-www-form-urlencoded")
            given = heard.headers.get("content-type", "")
            if heard.body and not given.startswith("application/x-www-form-urlencoded"):
                yield f"{where}: sent as {given}"
            yield from self._parameters(_nested(heard.body.decode()), content["schema"], where, "")
            return
        schemas = {each["name"]: each["schema"] for each in operation["parameters"] if each["in"] == "query"}
        query = {"type": "object", "properties": schemas, "additionalProperties": False}
        yield from self._parameters(_nested(heard.query), query, where, "")

    def _parameters(self, value: Any, schema: Schema, where: str, name: str) -> Iterator[str]:
        if f"{where} {name}" in NEWER:
            return
        schema = self._resolved(schema)
        if "anyOf" in schema:
            tried = [list(self._parameters(value, each, where, name)) for each in schema["anyOf"]]
            yield from min(tried, key=len)
        elif schema.get("type") == "object" and isinstance(value, dict):
            yield from self._members(value, schema, where, name)
        elif schema.get("type") == "array" and isinstance(value, dict):
            for place, each in value.items():
                yield from self._parameters(each, schema["items"], where, f"{name}[{place}]")
        elif not isinstance(value, str) or not _is(value, schema):
            yield f"{where}: {name or 'the body'} is not {json.dumps(schema)[:120]}"

    def _members(self, value: Mapping[str, Any], schema: Schema, where: str, name: str) -> Iterator[str]:
        known, others = schema.get("properties", {}), schema.get("additionalProperties", not schema.get("properties"))
        for each, inner in value.items():
            below = f"{name}[{each}]" if name else each
            if each in known:
                yield from self._parameters(inner, known[each], where, below)
            elif isinstance(others, dict):
                yield from self._parameters(inner, others, where, below)
            elif not others and f"{where} {below}" not in NEWER:
                yield f"{where}: {below} is no parameter"
        for each in schema.get("required", ()):
            if each not in value:
                yield f"{where}: {each} is missing"

    def _of_answer(self, heard: Heard, operation: Schema, where: str) -> Iterator[str]:
        told = str(heard.status) if str(heard.status) in operation["responses"] else "default"
        path = where.partition(" ")[2].replace("/", "~1")
        inside = f"/paths/{path}/{heard.method.lower()}/responses/{told}/content/application~1json/schema"
        # By reference, so that the references inside are looked up in the document.
        validator = Draft4Validator({"$ref": f"{URN}#{inside}"}, registry=self._registry)
        for error in validator.iter_errors(json.loads(heard.answer)):
            place = "/".join(str(each) for each in error.absolute_path)
            yield f"{where} answered {heard.status}: {place or 'the whole'}: {error.message[:200]}"

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            found: Any = self._spec
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema


def _plain(schema: Any) -> Any:
    """Without OpenAPI's own word for null, which JSON Schema has not: there it is one more type."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    told = {name: _plain(each) for name, each in schema.items() if name != "nullable"}
    return {"anyOf": [{"type": "null"}, told]} if schema.get("nullable") is True else told


def _is(text: str, schema: Schema) -> bool:
    """Whether a parameter's text is of this plain schema."""
    match schema.get("type"):
        case "integer":
            return bool(re.fullmatch(r"-?[0-9]+", text))
        case "number":
            return bool(re.fullmatch(r"-?[0-9.]+", text))
        case "boolean":
            return text in ("true", "false")
        case "string":
            return text in schema.get("enum", (text,)) and len(text) <= schema.get("maxLength", len(text))
        case _:
            return False


def _nested(text: str) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        node = root
        *path, last = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", name)
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return root


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(
        "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", path))
    )
