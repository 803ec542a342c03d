"""Tensors: what is sent is what is read, as JSON and as bytes, and what is neither is refused."""

import contextlib
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vroom_api.predictions.tensors import BYTES, NUMBERS, Tensor, elements_of, encoded
from vroom_api.problems import Problem


def limits(datatype: str) -> st.SearchStrategy[Any]:
    kind = NUMBERS[datatype]
    if kind.kind == "b":
        return st.booleans()
    if kind.kind == "f":
        return st.floats(width=kind.itemsize * 8, allow_infinity=False, allow_nan=False)
    bounds = np.iinfo(kind)
    return st.integers(int(bounds.min), int(bounds.max))


TENSORS = st.one_of(
    *(st.tuples(st.just(datatype), st.lists(limits(datatype), max_size=5)) for datatype in NUMBERS),
    st.tuples(st.just(BYTES), st.lists(st.text(st.characters(codec="utf-8"), min_size=1), max_size=5)),
)


@given(TENSORS, st.booleans())
def test_what_is_encoded_is_decoded(tensor: tuple[str, list[Any]], binary: bool) -> None:
    datatype, elements = tensor
    made, content = encoded("x", datatype, elements, binary=binary)
    assert made.shape == [len(elements)]
    assert made.size == (len(content) if binary else None)
    assert elements_of(made, memoryview(content) if binary else None) == elements


@given(st.binary(max_size=40), st.sampled_from([*NUMBERS, BYTES]), st.integers(0, 9))
def test_any_bytes_are_read_or_refused(content: bytes, datatype: str, rows: int) -> None:
    with contextlib.suppress(Problem):
        found = elements_of(Tensor("x", [rows], datatype), memoryview(content))
        assert len(found) == rows
        assert not any(isinstance(value, float) and not math.isfinite(value) for value in found)


def test_what_cannot_be_left_out_otherwise_is_nan_null_or_an_empty_text() -> None:
    assert elements_of(Tensor("x", [2], "FP64", [None, 1.5]), None) == [None, 1.5]
    assert elements_of(Tensor("x", [2], "FP32"), memoryview(struct.pack("<2f", math.nan, 1.5))) == [None, 1.5]
    assert elements_of(Tensor("x", [2], BYTES, ["", "a"]), None) == [None, "a"]
    assert elements_of(Tensor("x", [2], BYTES), memoryview(b"\0\0\0\0\1\0\0\0a")) == [None, "a"]


def test_data_may_be_nested_as_the_shape_is() -> None:
    assert elements_of(Tensor("x", [2, 1], "INT64", [[1], [2]]), None) == [1, 2]
    assert elements_of(Tensor("x", [2, 1], "INT64", [1, 2]), None) == [1, 2]


@pytest.mark.parametrize(
    ("datatype", "data", "reason"),
    [
        ("INT8", [128], "128 is not of the datatype INT8"),
        ("INT64", [1.5], "1.5 is not of the datatype INT64"),
        ("UINT64", [-1], "-1 is not of the datatype UINT64"),
        ("BOOL", [2], "2 is not of the datatype BOOL"),
        ("FP64", ["1"], '"1" is not of the datatype FP64'),
        ("FP64", [True], "true is not of the datatype FP64"),
        ("BYTES", [1], "1 is not of the datatype BYTES"),
        ("BYTES", [[["deep"]]], '["deep"] is not of the datatype BYTES'),
        ("FLOAT", [1], "datatype 'FLOAT' is not one of BOOL"),
        ("INT64", [1, 2], "2 elements are not the 1 of the shape [1]"),
    ],
)
def test_an_element_of_another_type_is_refused(datatype: str, data: list[Any], reason: str) -> None:
    with pytest.raises(Problem) as caught:
        elements_of(Tensor("x", [1], datatype, data), None)
    assert (caught.value.status, caught.value.cause) == (400, "malformed-tensor")
    assert reason in caught.value.detail
    assert caught.value.faults[0].field == "x"


@pytest.mark.parametrize(
    ("datatype", "content", "reason"),
    [
        ("FP64", b"1234567", "7 bytes are not whole elements of 8"),
        ("FP64", struct.pack("<d", math.inf), "infinity is not a value"),
        ("BYTES", b"\1\0", "leads behind the tensor's last byte"),
        ("BYTES", b"\2\0\0\0a", "leads behind the tensor's last byte"),
        ("BYTES", b"\1\0\0\0\xff", "element 0 is not UTF-8"),
    ],
)
def test_bytes_that_are_not_the_elements_are_refused(datatype: str, content: bytes, reason: str) -> None:
    with pytest.raises(Problem) as caught:
        elements_of(Tensor("x", [1], datatype), memoryview(content))
    assert caught.value.status == 400
    assert reason in caught.value.detail
