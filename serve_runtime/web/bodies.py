"""Bodies of requests and answers as Python values: JSON, forms, bytes. No Ray, no web framework."""

from __future__ import annotations

import email.parser
import email.policy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qsl

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from serve_runtime.errors import BadInput, MalformedInput, UnsupportedInput

Kind: TypeAlias = Literal["json", "form", "bytes"]
CONTENT_TYPES: Final[dict[Kind, tuple[str, ...]]] = {
    "json": ("application/json",),
    "form": ("application/x-www-form-urlencoded", "multipart/form-data"),
    "bytes": ("application/octet-stream",),
}
"""What the schema names for each kind. Any ``…+json`` is JSON too, and anything else is bytes."""

MAX_FIELDS: Final = 1000


@dataclass(frozen=True, slots=True)
class File:
    """A file of a multipart form."""

    name: str
    content_type: str
    content: bytes


def kind_of(content_type: str) -> Kind:
    """Which kind a ``Content-Type`` header means; JSON where there is none, as for `curl -d` with a JSON header."""
    essence = content_type.partition(";")[0].strip().lower()
    if not essence or essence == "application/json" or essence.endswith("+json"):
        return "json"
    return "form" if essence in CONTENT_TYPES["form"] else "bytes"


class Reader:
    """Turns bodies into items of one type.

    Raises from :meth:`read`: UnsupportedInput (415), MalformedInput (400), BadInput (422, details are a list of
    ``{"at": ["field", 0], "message"}``).
    """

    def __init__(self, accepts: Sequence[Kind], item_type: Any = Any) -> None:
        self._accepts = tuple(accepts)
        self._any = item_type is Any
        self._adapter: TypeAdapter[Any] = TypeAdapter(item_type)

    def read(self, content_type: str, raw: bytes) -> Any:
        """The item in ``raw``."""
        kind = kind_of(content_type)
        if kind not in self._accepts:
            wanted = ", ".join(name for each in self._accepts for name in CONTENT_TYPES[each])
            raise UnsupportedInput(f"content type {content_type or 'application/json'!r}: send {wanted}")
        if kind == "bytes":
            return raw
        try:
            if kind == "form":
                return self._adapter.validate_python(read_form(content_type, raw))
            if self._any:
                return from_json(raw, allow_inf_nan=False)
            return self._adapter.validate_json(raw)
        except ValidationError as error:
            raise _refusal(error) from None
        except ValueError as error:
            raise MalformedInput(f"the body is no JSON: {error}") from None


def _refusal(error: ValidationError) -> BadInput | MalformedInput:
    """All that is wrong, with the places; nothing of the input, which may be large or secret."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        return MalformedInput(f"the body is no JSON: {found[0]['msg']}")
    details = [{"at": list(each["loc"]), "message": each["msg"]} for each in found]
    first = ".".join(str(part) for part in found[0]["loc"])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return BadInput(f"{first or 'the body'}: {found[0]['msg']}{more}", details=details)


def read_form(content_type: str, raw: bytes) -> dict[str, Any]:
    """Field name to text or :class:`File`; a list where a name comes several times. Raises MalformedInput."""
    if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
        pairs = _multipart(content_type, raw)
    else:
        try:
            pairs = list(
                parse_qsl(raw.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
            )
        except ValueError as error:
            raise MalformedInput(f"the form cannot be read: {error}") from None
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields


def _multipart(content_type: str, raw: bytes) -> list[tuple[str, Any]]:
    """Parts in order, read by the standard library's parser of MIME messages (RFC 7578 is a profile of them)."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + raw)
    if not message.is_multipart() or message.defects:
        why = ", ".join(sorted({type(defect).__name__ for defect in message.defects})) or "no parts"
        raise MalformedInput(f"the multipart form cannot be read: {why}")
    pairs: list[tuple[str, Any]] = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            raise MalformedInput(f"part {len(pairs)} of the form has no name")
        if len(pairs) >= MAX_FIELDS:
            raise MalformedInput(f"the form has more than {MAX_FIELDS} parts")
        content = part.get_payload(decode=True)
        content = content if isinstance(content, bytes) else b""
        file_name = part.get_filename()
        if file_name is None:
            try:
                pairs.append((name, content.decode("utf-8")))
            except UnicodeDecodeError:
                raise MalformedInput(f"field {name!r} of the form is no UTF-8; send it as a file") from None
        else:
            pairs.append((name, File(file_name, part.get_content_type(), content)))
    return pairs


def _plain(value: Any) -> Any:
    """Arrays, tensors and their scalars, without knowing their libraries."""
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def write_json(value: Any) -> bytes:
    """JSON of what a predictor returned; NaN and infinities become null, since JSON has none.

    Raises pydantic_core.PydanticSerializationError for what has no JSON form.
    """
    return to_json(value, fallback=_plain, inf_nan_mode="null")


def write_event(value: Any, event: str = "") -> bytes:
    """One server-sent event. Text goes as it is, line by line; everything else as JSON."""
    text = value if isinstance(value, str) else write_json(value).decode()
    # All three line ends of the format, else a carriage return in a text would end the field early.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    name = f"event: {event}\n" if event else ""
    return (name + "".join(f"data: {line}\n" for line in lines) + "\n").encode()
