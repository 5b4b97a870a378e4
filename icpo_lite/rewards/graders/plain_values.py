"""Python values as bytes: what passes between a reply's process and the process that judges it.

Only values of known types pass, rebuilt on the other side from their parts; an object of the
reply's own class never does, so neither does its `__eq__`. Such an object is handed over as a
`Reference`, a number that stands for it.

A value is one letter for its type and then its content; lengths, counts and small integers take
eight bytes. This file also runs inside the sandbox, by its text, where every import delays the
start: that is why it does without `json`, `typing` and what they load.
"""

from __future__ import annotations

import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

#: Bytes of one message, and values in it.
MOST_BYTES = 16 << 20
MOST_VALUES = 1 << 20
_CONSTANTS: dict[bytes, Any] = {b"N": None, b"T": True, b"F": False}
_SEQUENCES: dict[type, bytes] = {list: b"[", tuple: b"(", set: b"<", frozenset: b"|"}
_FROM_SEQUENCE: dict[bytes, Any] = {letter: kind for kind, letter in _SEQUENCES.items()}
_WORD = struct.Struct(">q")
_FLOAT = struct.Struct(">d")

#: Types of the standard library that are values: where each is, and how its parts are told. A
#: value is rebuilt by calling the type with its parts.
_STANDARD: dict[tuple[str, str], Callable[[Any], list[Any]]] = {
    ("builtins", "bytearray"): lambda v: [bytes(v)],
    ("builtins", "complex"): lambda v: [v.real, v.imag],
    ("builtins", "range"): lambda v: [v.start, v.stop, v.step],
    ("collections", "deque"): lambda v: [list(v)],
    ("collections", "Counter"): lambda v: [dict(v)],
    ("collections", "OrderedDict"): lambda v: [list(v.items())],
    ("fractions", "Fraction"): lambda v: [v.numerator, v.denominator],
    ("decimal", "Decimal"): lambda v: [str(v)],
    ("datetime", "date"): lambda v: [v.year, v.month, v.day],
    ("datetime", "time"): lambda v: [v.hour, v.minute, v.second, v.microsecond],
    ("datetime", "timedelta"): lambda v: [v.days, v.seconds, v.microseconds],
    ("datetime", "datetime"): lambda v: [
        *(v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond)
    ],
}


#: The kind of a reference to a function of the tests, which the reply may call.
FUNCTION = "function of the tests"


class NotPlainError(Exception):
    """A value that cannot pass, or bytes that are none."""


class Reference:
    """An object of the other process, by number; `kind` is the name of its class."""

    __slots__ = ("kind", "number")

    def __init__(self, number: int, kind: str) -> None:
        self.number, self.kind = number, kind


def encode(value: Any, refer: Callable[[Any], Reference] | None = None) -> bytes:
    """The bytes of a value; refer: makes the reference of what is no value.

    Raises NotPlainError for values that are too many, too deep, or of an unknown type.
    """
    encoder = _Encoder(refer)
    try:
        encoder.add(value)
    except RecursionError:
        raise NotPlainError("expected a value of some depth, found one without end") from None
    return b"".join(encoder.parts)


class _Encoder:
    def __init__(self, refer: Callable[[Any], Reference] | None) -> None:
        self.parts: list[bytes] = []
        self._refer = refer
        self._left = MOST_VALUES

    def add(self, value: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise NotPlainError(f"expected at most {MOST_VALUES} values, found more")
        kind = type(value)
        if kind in _SEQUENCES:
            self._add_all(_SEQUENCES[kind], value)
        elif kind is dict:
            self._add_pairs(value)
        elif value is None or kind is bool:
            self.parts.append(b"N" if value is None else b"T" if value else b"F")
        elif kind is int:
            self._add_whole(value)
        elif kind is float:
            self.parts += [b"f", _FLOAT.pack(value)]
        elif kind is str:
            self._add_bytes(b"s", value.encode("utf-8", "surrogatepass"))
        elif kind is bytes:
            self._add_bytes(b"b", value)
        else:
            self._add_other(value, kind)

    def _add_whole(self, value: int) -> None:
        if -(1 << 63) <= value < 1 << 63:
            self.parts += [b"i", _WORD.pack(value)]
        else:
            self._add_bytes(b"I", value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))

    def _add_bytes(self, letter: bytes, data: bytes) -> None:
        self.parts += [letter, _WORD.pack(len(data)), data]

    def _add_all(self, letter: bytes, values: Any) -> None:
        self.parts += [letter, _WORD.pack(len(values))]
        for value in values:
            self.add(value)

    def _add_pairs(self, values: dict[Any, Any]) -> None:
        self.parts += [b"{", _WORD.pack(len(values))]
        for key, value in values.items():
            self.add(key)
            self.add(value)

    def _add_other(self, value: Any, kind: type) -> None:
        name = (kind.__module__, kind.__qualname__)
        if name in _STANDARD and kind is getattr(sys.modules.get(name[0]), name[1], None):
            self.parts.append(b"*")
            self.add(name)
            self.add(_STANDARD[name](value))
        elif issubclass(kind, tuple) and hasattr(kind, "_fields"):  # a named tuple
            self.add(tuple(value))
        elif issubclass(kind, dict) and name == ("collections", "defaultdict"):
            self.add(dict(value))
        elif self._refer is None:
            raise NotPlainError(f"expected plain values, found one of the class {kind.__name__}")
        else:
            reference = self._refer(value)
            self.parts.append(b"@")
            self.add((reference.number, reference.kind))


def decode(data: bytes, resolve: Callable[[int, str], Any] | None = None) -> Any:
    """The value that bytes hold; resolve: (number, class) → what a reference stands for.

    Raises NotPlainError for anything else: the sender may be hostile.
    """
    decoder = _Decoder(data, resolve)
    try:
        value = decoder.take()
    except NotPlainError:
        raise
    except Exception as error:  # hostile bytes end in errors of struct, of slices, of numbers
        raise NotPlainError(f"expected a plain value, found {type(error).__name__}") from None
    if decoder.at != len(data):
        raise NotPlainError("expected one value, found more")
    return value


class _Decoder:
    def __init__(self, data: bytes, resolve: Callable[[int, str], Any] | None) -> None:
        self.at = 0
        self._data = data
        self._resolve = resolve

    def _next(self, count: int) -> bytes:
        part = self._data[self.at : self.at + count]
        if count < 0 or len(part) != count:
            raise NotPlainError("expected more bytes, found the end")
        self.at += count
        return part

    def _word(self) -> int:
        return int(_WORD.unpack(self._next(8))[0])

    def take(self) -> Any:
        letter = self._next(1)
        if letter in _CONSTANTS:
            return _CONSTANTS[letter]
        if letter == b"i":
            return self._word()
        if letter == b"f":
            return _FLOAT.unpack(self._next(8))[0]
        if letter in _FROM_SEQUENCE:
            return _FROM_SEQUENCE[letter]([self.take() for _ in range(self._count())])
        if letter == b"{":
            return {self.take(): self.take() for _ in range(self._count())}
        if letter in (b"s", b"b", b"I"):
            return self._from_bytes(letter, self._next(self._word()))
        return self._other(letter)

    def _count(self) -> int:
        count = self._word()
        if not 0 <= count <= len(self._data) - self.at:
            raise NotPlainError("expected as many values as are told, found fewer")
        return count

    def _from_bytes(self, letter: bytes, data: bytes) -> Any:
        if letter == b"s":
            return data.decode("utf-8", "surrogatepass")
        return data if letter == b"b" else int.from_bytes(data, "big", signed=True)

    def _other(self, letter: bytes) -> Any:
        if letter not in (b"*", b"@"):
            raise NotPlainError("expected a known type, found another")
        held = self.take()
        if letter == b"*":
            return _rebuilt(held, self.take())
        number, kind = held
        if self._resolve is None or type(number) is not int or type(kind) is not str:
            raise NotPlainError("expected a plain value, found an object")
        return self._resolve(number, kind)


def _rebuilt(name: Any, parts: Any) -> Any:
    """A value of the standard library, by calling its type; for names of the table alone."""
    if name not in _STANDARD or type(parts) is not list:
        raise NotPlainError("expected a known type, found another")
    module, kind = name
    __import__(module)
    return getattr(sys.modules[module], kind)(*parts)


def send(file: IO[bytes], data: bytes) -> None:
    """Write one message: its length in eight bytes, then what `encode` has made."""
    if len(data) > MOST_BYTES:
        raise NotPlainError(f"expected at most {MOST_BYTES} bytes, found {len(data)}")
    file.write(_WORD.pack(len(data)) + data)
    file.flush()


def receive(file: IO[bytes]) -> bytes:
    """The next message. EOFError at the end, NotPlainError for one that is too long."""
    head = file.read(8)
    if len(head) < 8:
        raise EOFError
    size = int(_WORD.unpack(head)[0])
    if not 0 <= size <= MOST_BYTES:
        raise NotPlainError(f"expected at most {MOST_BYTES} bytes, found {size}")
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data
