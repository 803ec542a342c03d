"""Which bodies are read: JSON in UTF-8, as it is."""

from collections.abc import Mapping

from vroom_api.problems import Problem

_UTF8 = ("utf-8", "utf8", "us-ascii")  # the last is a part of the first


BINARY = b"application/octet-stream"


def check_body(headers: Mapping[bytes, bytes], *, may_be_binary: bool = False) -> None:
    """Refuse a body that is declared to be something else.

    A body without a type is taken for JSON, as it always was. It opens no door to other sites: a browser sends
    such a request without asking first, but never without Sec-Fetch-Site or Origin.

    Args:
        may_be_binary: whether the route takes bytes as well.

    Raises:
        Problem: 415.
    """
    kind, encoding = headers.get(b"content-type"), headers.get(b"content-encoding")
    if (kind is None or kind == b"application/json") and encoding is None:
        return
    if b"transfer-encoding" not in headers and not headers.get(b"content-length", b"").strip(b"0"):
        return  # there is no body
    if encoding is not None and (name := _text(encoding)) not in ("", "identity"):
        raise Problem(
            415,
            "unsupported-encoding",
            f"Content-Encoding {name} is not accepted; send it plain",
            headers={"accept-encoding": "identity"},
        )
    if kind is not None and not (may_be_binary and kind.strip().lower() == BINARY):
        _check_type(_text(kind))


def _check_type(kind: str) -> None:
    name, *parameters = (part.strip() for part in kind.split(";"))
    if not (name == "application/json" or (name.startswith("application/") and name.endswith("+json"))):
        raise Problem(
            415,
            "unsupported-type",
            f"Content-Type {name or 'without a name'} is not accepted; send application/json",
            headers={"accept": "application/json"},
        )
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "charset" and (charset := value.strip().strip('"')) not in _UTF8:
            raise Problem(415, "unsupported-charset", f"charset {charset} is not accepted; send UTF-8")


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip().lower()[:100]
