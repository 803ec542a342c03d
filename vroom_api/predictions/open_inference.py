"""The Open Inference Protocol (V2): its requests as rows to predict, its answers from what was predicted.

A request has a tensor for each input, and each of them an element for each row. Rows become a body of
/predict/batch, so that they are checked, filled with what is stored, answered and recorded as all others are.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec

from vroom_api.champion.loading import Champion
from vroom_api.contract import Manifest
from vroom_api.contract.decoding import decode
from vroom_api.contract.intervals import DEFAULT_LEVEL, MAX_LEVEL, MIN_LEVEL
from vroom_api.json_bodies import malformed as malformed_body
from vroom_api.predictions.asked import Steps, check_count, slices
from vroom_api.predictions.tensors import BYTES, Parameters, Tensor, elements_of, encoded, malformed
from vroom_api.problems import Fault, Problem
from vroom_api.texts import as_asked, meant

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ("binary_tensor_data",)
ENTITY = "entity_id"  # a tensor beside those of the inputs: rows are filled with what is stored under it
_DATATYPES = {"integer": "INT64", "number": "FP64", "text": BYTES, "time": BYTES}

Name = Annotated[str, msgspec.Meta(max_length=512)]


class TensorMetadata(msgspec.Struct, frozen=True):
    """A tensor that a model takes or answers; -1 is the number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What a model takes and answers. Inputs may be left out as in /predict."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class WantedOutput(msgspec.Struct, frozen=True):
    """An output to answer with."""

    name: str
    parameters: Parameters | None = None  # `binary_data`: as bytes behind the JSON


class InferenceRequest(msgspec.Struct, frozen=True):
    """Rows by columns; `parameters` may have the `level` of the intervals."""

    inputs: Annotated[list[Tensor], msgspec.Meta(min_length=1, max_length=1024)]
    outputs: list[WantedOutput] | None = None  # None or []: all
    parameters: Parameters | None = None
    id: Name | None = None


class InferenceResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """Predictions by columns, in the order of the rows."""

    model_name: str
    model_version: str
    outputs: list[Tensor]
    id: str | None = None


class InferenceError(msgspec.Struct, frozen=True):
    """Why a request was refused, in the protocol's own shape."""

    error: str


class AskedRows(msgspec.Struct, frozen=True):
    """A request that can be predicted."""

    body: bytes  # of /predict/batch
    outputs: list[tuple[str, bool]]  # name, and whether it is answered as bytes
    id: str | None


def describe(manifest: Manifest, *, recorded: bool) -> ModelMetadata:
    """What a champion takes and answers.

    Args:
        recorded: whether predictions get an id.
    """
    inputs = {field.name: _DATATYPES[field.type] for field in manifest.inputs} | {ENTITY: BYTES}
    outputs = datatypes_of_outputs(manifest, recorded=recorded)
    return ModelMetadata(
        name=manifest.forecast,
        versions=[str(manifest.version)],
        platform=PLATFORM,
        inputs=[TensorMetadata(name, kind, [-1]) for name, kind in inputs.items()],
        outputs=[TensorMetadata(name, kind, [-1]) for name, kind in outputs.items()],
    )


def example(manifest: Manifest) -> InferenceRequest:
    """A request that the champion answers, of one row."""
    return InferenceRequest(
        inputs=[
            Tensor(field.name, [1], _DATATYPES[field.type], [manifest.example[field.name]])
            for field in manifest.inputs
        ],
        parameters={"level": DEFAULT_LEVEL},
        id="1",
    )


def datatypes_of_outputs(manifest: Manifest, *, recorded: bool) -> dict[str, str]:
    """What is answered, by name; the prediction first."""
    found = {
        f"predicted_{manifest.target}": "FP64",
        "low": "FP64",
        "high": "FP64",
        "in_support": "BOOL",
        "model_version": "INT64",
    }
    return found | {"prediction_id": BYTES} if recorded else found


def read_in_steps(
    champion: Champion, body: bytes, header_length: int | None, largest: int, *, recorded: bool
) -> Steps[AskedRows]:
    """Read a request, with rests.

    Args:
        header_length: of the JSON in bytes, where tensors are behind it; None where there are none.
        largest: number of rows.
        recorded: whether predictions get an id.

    Raises:
        Problem: 400 for what is not a request of the protocol, 422 for too many rows, or an unknown output or level.
    """
    header, binary = _split(body, header_length)
    try:
        request = decode(header, InferenceRequest)
    except msgspec.ValidationError as error:
        raise _not_a_request(error) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed_body(header, error) from None
    outputs = _wanted(champion.manifest, request, recorded=recorded)
    options = _options(request.parameters or {})
    yield
    columns = yield from _columns(champion.manifest, request.inputs, binary, largest)
    names = list(columns)
    rows = list(zip(*columns.values(), strict=True))
    encoded_rows: list[bytes] = []
    for part in slices(len(rows)):
        group = [
            {name: value for name, value in zip(names, row, strict=True) if value is not None} | options
            for row in rows[part]
        ]
        encoded_rows.append(msgspec.json.encode(group)[1:-1])
        yield
    return AskedRows(b"[" + b",".join(encoded_rows) + b"]", outputs, request.id)


def answer_in_steps(
    champion: Champion, asked: AskedRows, predicted: bytes, *, recorded: bool
) -> Steps[tuple[bytes, int | None]]:
    """The body of an answer, and how long its JSON is where bytes are behind it; with rests.

    Args:
        predicted: the body that /predict/batch answers for the rows.
    """
    rows: list[dict[str, Any]] = msgspec.json.decode(predicted)
    yield
    datatypes = datatypes_of_outputs(champion.manifest, recorded=recorded)
    parts = []
    for name, binary in asked.outputs:
        if name in ("low", "high"):
            elements = [row["interval"][name] for row in rows]
        else:
            elements = [row[name] for row in rows]
        parts.append(encoded(name, datatypes[name], elements, binary=binary))
        yield
    header = msgspec.json.encode(
        InferenceResponse(
            champion.manifest.forecast,
            str(champion.version),
            [tensor for tensor, _ in parts],
            asked.id,
        )
    )
    if not any(binary for _, binary in asked.outputs):
        return header, None
    return b"".join([header, *(content for _, content in parts)]), len(header)


def _split(body: bytes, header_length: int | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    if not 0 < header_length <= len(body):
        raise _refused(
            f"Inference-Header-Content-Length: {header_length} is not within 1..{len(body)}, the bytes of the body"
        )
    return body[:header_length], memoryview(body)[header_length:]


def _not_a_request(error: msgspec.ValidationError) -> Problem:
    message, _, path = str(error).partition(" - at `$.")
    field = path.rstrip("`")
    return _refused(f"{field}: {as_asked(message)}" if field else as_asked(message), field)


def _refused(detail: str, field: str = "") -> Problem:
    return Problem(400, "malformed-inference", detail, faults=[Fault(field, detail)] if field else None)


def _wanted(manifest: Manifest, request: InferenceRequest, *, recorded: bool) -> list[tuple[str, bool]]:
    """The outputs to answer with, in the order that they are asked for."""
    names = list(datatypes_of_outputs(manifest, recorded=recorded))
    binary = (request.parameters or {}).get("binary_data_output") is True
    if not request.outputs:
        return [(name, binary) for name in names]
    wanted = {}
    for output in request.outputs:
        if output.name not in names:
            raise _unknown(f"outputs.{output.name[:64]}", "output", meant(output.name, names), names)
        wanted[output.name] = (output.parameters or {}).get("binary_data", binary) is True
    return list(wanted.items())


def _unknown(field: str, what: str, hint: str, names: Sequence[str]) -> Problem:
    allowed = ", ".join(names)
    detail = f"{field}: there is no such {what}{hint}; there is {allowed}"
    return Problem(422, "invalid-input", detail, faults=[Fault(field, detail, allowed)])


def _options(parameters: Parameters) -> dict[str, Any]:
    """What a request asks for all of its rows; other parameters are those of clients, such as `content_type`."""
    level = parameters.get("level")
    if level is None:
        return {}
    if isinstance(level, bool) or not isinstance(level, int | float) or not MIN_LEVEL <= level <= MAX_LEVEL:
        allowed = f"{MIN_LEVEL}..{MAX_LEVEL}"
        detail = f"parameters.level: {msgspec.json.encode(level).decode()[:60]} is not within {allowed}"
        raise Problem(422, "invalid-input", detail, faults=[Fault("level", detail, allowed)])
    return {"level": level}


def _columns(
    manifest: Manifest, tensors: Sequence[Tensor], binary: memoryview, largest: int
) -> Steps[dict[str, list[Any]]]:
    """The elements of each input by name, as many of each; with a rest after each."""
    inputs = [field.name for field in manifest.inputs]
    known = [*inputs, ENTITY]
    columns: dict[str, list[Any]] = {}
    for tensor, own in _with_bytes(tensors, binary):
        rows, *across = tensor.shape
        check_count(rows, largest)
        if len(tensors) == 1 and tensor.name not in known and across == [len(inputs)]:
            # One tensor for all inputs, as clients of models without named inputs send it.
            elements = elements_of(tensor, own)
            return {name: elements[at :: len(inputs)] for at, name in enumerate(inputs)}
        if tensor.name not in known:
            raise _unknown(f"inputs.{tensor.name[:64]}", "input", meant(tensor.name, known), known)
        if tensor.name in columns:
            raise malformed(tensor.name, "sent twice; send it once")
        if across not in ([], [1]):
            raise malformed(tensor.name, f"its shape {tensor.shape} is neither [n] nor [n, 1]")
        columns[tensor.name] = elements_of(tensor, own)
        yield
    counts = {name: len(elements) for name, elements in columns.items()}
    if len(set(counts.values())) > 1:
        raise _refused(f"tensors have different numbers of rows: {counts}")
    return columns


def _with_bytes(tensors: Sequence[Tensor], binary: memoryview) -> Iterator[tuple[Tensor, memoryview | None]]:
    """Each tensor with its bytes behind the JSON, which are there in the same order."""
    declared = sum(tensor.size or 0 for tensor in tensors)
    if declared != len(binary) or any((tensor.size or 0) < 0 for tensor in tensors):
        raise _refused(
            f"tensors declare {declared} bytes behind the JSON (binary_data_size), and there are {len(binary)}; "
            "Inference-Header-Content-Length is the length of the JSON"
        )
    start = 0
    for tensor in tensors:
        if tensor.size is None:
            yield tensor, None
        else:
            yield tensor, binary[start : start + tensor.size]
            start += tensor.size
