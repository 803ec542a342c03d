"""Tensors of the Open Inference Protocol: their datatypes, and their elements in JSON or as bytes behind it."""

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from vroom_api.problems import Fault, Problem

BYTES = "BYTES"
_BOOL = "BOOL"
# Little-endian, row-major, without padding: the binary extension of the protocol.
NUMBERS = {
    _BOOL: np.dtype("?"),
    **{f"{sign}INT{bits}": np.dtype(f"<{sign[:1].lower() or 'i'}{bits // 8}")
       for sign in ("U", "") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}  # fmt: skip
_FLOATS = {name for name, kind in NUMBERS.items() if kind.kind == "f"}
DATATYPES = (*NUMBERS, BYTES)
_LENGTH = struct.Struct("<I")
Parameters = dict[str, Any]
Side = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Tensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Elements of one type, in row-major order; in an answer of one dimension."""

    name: str
    shape: Annotated[list[Side], msgspec.Meta(min_length=1, max_length=2)]
    datatype: str
    data: list[Any] | None = None  # None where they are behind the JSON, `binary_data_size` bytes of them
    parameters: Parameters | None = None

    @property
    def size(self) -> int | None:
        """The bytes that are behind the JSON; None where the elements are in it."""
        size = (self.parameters or {}).get("binary_data_size")
        return size if isinstance(size, int) and not isinstance(size, bool) else None


def elements_of(tensor: Tensor, binary: memoryview | None) -> list[Any]:
    """The elements as JSON has them: numbers, texts, and None for what is left out.

    Left out are NaN, null and an empty text, because a tensor has no other way to leave out one of its elements.

    Args:
        binary: the bytes behind the JSON that are its own.

    Raises:
        Problem: they are not what datatype and shape declare, 400.
    """
    if tensor.datatype not in DATATYPES:
        raise malformed(
            tensor.name, f"datatype {tensor.datatype[:32]!r} is not one of {', '.join(DATATYPES)}"
        )
    if binary is not None:
        found = _of_texts(tensor, binary) if tensor.datatype == BYTES else _of_numbers(tensor, binary)
    else:
        found = _of_json(tensor, tensor.data or [])
    if len(found) != (count := math.prod(tensor.shape)):
        raise malformed(tensor.name, f"{len(found)} elements are not the {count} of the shape {tensor.shape}")
    return found


def _of_numbers(tensor: Tensor, binary: memoryview) -> list[Any]:
    kind = NUMBERS[tensor.datatype]
    if len(binary) % kind.itemsize:
        raise malformed(
            tensor.name, f"{len(binary)} bytes are not whole elements of {kind.itemsize} ({tensor.datatype})"
        )
    array = np.frombuffer(binary, kind)
    found: list[Any] = (array.astype(np.int8) if kind.kind == "b" else array).tolist()
    if kind.kind != "f" or np.isfinite(array).all():
        return found
    return [_number(tensor, element) for element in found]


def _of_texts(tensor: Tensor, binary: memoryview) -> list[str | None]:
    """Each is its length, four bytes, and then as many bytes of UTF-8."""
    found: list[str | None] = []
    start = 0
    while start < len(binary):
        end = start + _LENGTH.size
        end += _LENGTH.unpack_from(binary, start)[0] if end <= len(binary) else 0
        if end > len(binary):
            raise malformed(tensor.name, f"the length at byte {start} leads behind the tensor's last byte")
        try:
            found.append(str(binary[start + _LENGTH.size : end], "utf-8") or None)
        except UnicodeDecodeError:
            raise malformed(tensor.name, f"element {len(found)} is not UTF-8") from None
        start = end
    return found


def _of_json(tensor: Tensor, data: list[Any]) -> list[Any]:
    kinds = set(map(type, data))
    # What is usual is checked as a whole; JSON has neither NaN nor infinity.
    if kinds == {float} and tensor.datatype in _FLOATS:
        return data
    if kinds == {str} and tensor.datatype == BYTES and "" not in data:
        return data
    return [_checked(tensor, element) for element in _flat(data)]


def _flat(data: Sequence[Any]) -> Iterator[Any]:
    """In the protocol data may be nested as the shape is, or flat."""
    for element in data:
        if isinstance(element, list):
            yield from element
        else:
            yield element


def _checked(tensor: Tensor, element: Any) -> Any:
    """An element of JSON, which has to be of the tensor's type."""
    if element is None:
        return None
    if tensor.datatype == BYTES:
        if isinstance(element, str):
            return element or None
    elif tensor.datatype == _BOOL:
        if element in (0, 1) and not isinstance(element, float):
            return int(element)
    elif isinstance(element, int | float) and not isinstance(element, bool):
        kind = NUMBERS[tensor.datatype]
        if kind.kind == "f":
            return _number(tensor, element)
        limits = np.iinfo(kind)
        if element == element // 1 and limits.min <= element <= limits.max:
            return element
    quoted = msgspec.json.encode(element).decode()[:60]
    raise malformed(tensor.name, f"{quoted} is not of the datatype {tensor.datatype}")


def _number(tensor: Tensor, element: float) -> float | None:
    if math.isinf(element):
        raise malformed(tensor.name, "infinity is not a value; leave it out with NaN, or send a number")
    return None if element != element else element


def encoded(name: str, datatype: str, elements: Sequence[Any], *, binary: bool) -> tuple[Tensor, bytes]:
    """A tensor of one dimension, and the bytes of it that come behind the JSON."""
    shape = [len(elements)]
    if not binary:
        return Tensor(name, shape, datatype, list(elements)), b""
    if datatype == BYTES:
        texts = [text.encode() for text in elements]
        content = b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    else:
        content = np.asarray(elements, NUMBERS[datatype]).tobytes()
    return Tensor(name, shape, datatype, None, {"binary_data_size": len(content)}), content


def malformed(name: str, detail: str) -> Problem:
    """A tensor that is not what it declares."""
    detail = f"{name[:64]}: {detail}"
    return Problem(400, "malformed-tensor", detail, faults=[Fault(name[:64], detail)])
