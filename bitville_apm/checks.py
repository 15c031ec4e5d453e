"""The complete, slow check of a record that the fast path did not accept: repaired, or refused field by field.

msgspec stops at the first error, accepts nesting to about 1000 and integers of any size, and refuses a lone
surrogate that PHP may well write. What users were promised ("Refused on arrival") is decided here instead.
"""

from __future__ import annotations

import json
import math
import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import msgspec

from bitville_apm import limits

_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19
_NOT_OPENING = bytes(set(range(256)) - set(b"[{"))
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong: the field's path (`sql.queries[3].ms`, empty for the whole record) and what is wrong."""

    field: str
    problem: str


class Refused(Exception):
    """A record that is not taken. `reason` is one of wire.md 5: invalid, oversize, expired, clock."""

    def __init__(self, problems: Sequence[Problem], reason: str = "invalid") -> None:
        super().__init__("; ".join(f"{p.field}: {p.problem}" if p.field else p.problem for p in problems))
        self.problems = list(problems)
        self.reason = reason

    def under(self, prefix: str) -> Refused:
        """The same refusal, seen from the object that holds the record in its field `prefix`."""
        return Refused(
            [Problem(f"{prefix}.{p.field}" if p.field else prefix, p.problem) for p in self.problems],
            self.reason,
        )


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(rb'\\[\\"]')
_PAIR = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]")


def suspicious(body: bytes) -> bool:
    """Whether something could be wrong where msgspec does not look. Cheap, and never wrong when it says no.

    It does not look at nesting, at the size of integers, and into the strings of unknown fields.
    """
    return _numbers_or_depth(body) or _broken_text(body)


def _broken_text(body: bytes) -> bool:
    if _SURROGATE.search(body):
        escapes = body.replace(b"\\\\", b"")
        if len(_SURROGATE.findall(escapes)) != 2 * len(_PAIR.findall(escapes)):
            return True
    if body.isascii():
        return False
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _numbers_or_depth(body: bytes) -> bool:
    if len(body.translate(None, _NOT_OPENING)) > limits.DEPTH and _is_deep(body):
        return True
    return _LONG_NUMBER in body.translate(_DIGITS) and _LONG_NUMBER in _outside_strings(body).translate(_DIGITS)


def _is_deep(body: bytes) -> bool:
    """Whether it is nested too deeply; a record of many small objects is not, and is told apart quickly.

    Without escapes, only quotation marks and brackets matter. Two marks side by side are an empty string, or end
    one and begin the next, which then may as well be one: either way they can go.
    """
    structure = _ESCAPE.sub(b"", body).translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    outside = b"".join(structure.split(b'"')[::2])
    for _ in range(limits.DEPTH // 2):  # each time at most two levels go
        if not outside:
            return False
        outside = outside.replace(b"[]", b"").replace(b"{}", b"")
    return bool(outside)


def _outside_strings(body: bytes) -> bytes:
    """The bytes that are in no JSON string; strings are what stands between unescaped quotation marks."""
    return b"".join(_ESCAPE.sub(b"", body).split(b'"')[::2])


def _depth(outside: bytes) -> int:
    depth = deepest = 0
    for bracket in outside.translate(None, _NOT_BRACKETS):
        if bracket in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def repaired(body: bytes) -> tuple[bytes, dict[str, Any]]:
    """Parse with everything checked that holds for any record; give it back as clean bytes and as an object.

    Raises `Refused` for what is not JSON, not an object, too deep, or has numbers out of range.
    """
    value, problems = _parse(body)
    if problems:
        raise Refused(problems)
    return msgspec.json.encode(value), value


def complete(body: bytes, type_: type[Any]) -> tuple[bytes, Any]:
    """Check every field of `body` against a record type: the clean bytes and the decoded record.

    Raises `Refused` with up to `limits.PROBLEMS` fields, whichever rules they break.
    """
    value, problems = _parse(body)
    value = _objects(value, type_)
    problems += list(_wrong_fields(value, type_, ""))
    if problems:
        raise Refused(problems[: limits.PROBLEMS])
    clean = msgspec.json.encode(value)
    return clean, msgspec.json.decode(clean, type=type_)


def _parse(body: bytes) -> tuple[dict[str, Any], list[Problem]]:
    if _depth(_outside_strings(body)) > limits.DEPTH:
        raise Refused([Problem("", f"nested deeper than {limits.DEPTH}")])
    problems: list[Problem] = []
    try:
        value = json.loads(body.decode("utf-8", "replace"), parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        raise Refused([Problem("", f"not JSON: {error}")]) from None
    if not isinstance(value, dict):
        raise Refused([Problem("", f"not an object but {_name(value)}")])
    return _cleaned(value, "", problems), problems


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _cleaned(value: Any, path: str, problems: list[Problem]) -> Any:
    """Strings without lone surrogates; numbers out of range reported under their path."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_cleaned(k, "", problems): _cleaned(v, _join(path, k), problems) for k, v in value.items()}
    if isinstance(value, list):
        return [_cleaned(v, f"{path}[{i}]", problems) for i, v in enumerate(value)]
    outside = isinstance(value, int) and not limits.INTEGER_MIN <= value <= limits.INTEGER_MAX
    if outside or (isinstance(value, float) and not math.isfinite(value)):
        problems.append(Problem(path, "number outside 64 bits"))
        return 0
    return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _structs(type_: Any) -> list[Any]:
    """The record types among the alternatives of an annotation; what is in a list is none of them."""
    if typing.get_origin(type_) in (list, dict, tuple):
        return []
    return [t for t in (typing.get_args(type_) or (type_,)) if isinstance(t, type) and issubclass(t, msgspec.Struct)]


def _wants_object(type_: Any) -> bool:
    alternatives = typing.get_args(type_) if typing.get_origin(type_) not in (dict, list) else (type_,)
    return bool(_structs(type_)) or any(typing.get_origin(t) is dict for t in alternatives or (type_,))


def _objects(value: Any, type_: Any) -> Any:
    """PHP writes an empty array as `[]` also where an object belongs: put `{}` there."""
    structs = _structs(type_)
    if value == [] and _wants_object(type_):
        return {}
    if isinstance(value, dict) and len(structs) == 1:
        known = {f.encode_name: f.type for f in msgspec.structs.fields(structs[0])}
        return {k: _objects(v, known[k]) if k in known else v for k, v in value.items()}
    of = _listed(type_)
    return [_objects(v, of) for v in value] if isinstance(value, list) and of is not None else value


def _listed(type_: Any) -> Any:
    """What the elements of a list are to be; None where no list is wanted."""
    lists = [t for t in (type_, *typing.get_args(type_)) if typing.get_origin(t) is list]
    return typing.get_args(lists[0])[0] if lists else None


def _wrong_fields(value: Any, type_: Any, path: str) -> Iterator[Problem]:
    """Every field that msgspec would refuse, not only the first."""
    if type_ is msgspec.Raw:
        return
    try:
        # Not `msgspec.convert`, which takes an empty object for a list.
        msgspec.json.decode(msgspec.json.encode(value), type=type_)
        return
    except msgspec.ValidationError as error:
        problem = str(error).split(" - at `", 1)[0]
    structs = _structs(type_)
    if isinstance(value, dict) and structs:
        yield from _wrong_in_struct(value, structs, path, problem)
        return
    of = _listed(type_)
    if isinstance(value, list) and of is not None:
        for i, element in enumerate(value):
            yield from _wrong_fields(element, of, f"{path}[{i}]")
        return
    yield Problem(path, problem)


def _wrong_in_struct(value: dict[str, Any], structs: list[Any], path: str, problem: str) -> Iterator[Problem]:
    tag = structs[0].__struct_config__.tag_field
    if tag is not None:
        structs = [s for s in structs if s.__struct_config__.tag == value.get(tag)]
        if not structs:
            yield Problem(_join(path, tag), problem)
            return
    for field in msgspec.structs.fields(structs[0]):
        where = _join(path, field.encode_name)
        if field.encode_name in value:
            yield from _wrong_fields(value[field.encode_name], field.type, where)
        elif field.required:
            yield Problem(where, "missing")


def _name(value: Any) -> str:
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
