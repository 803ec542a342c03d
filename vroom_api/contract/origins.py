"""Where a request is addressed to, and whether a page of another site made it: one answer for every door.

The service and Dagster's pages, which `make run` opens beside it, ask here.
"""

import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
_AUTHORITY = re.compile(rb"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,253}))(?::([0-9]{0,5}))?")


class Authority(NamedTuple):
    """A host's name in lower case, of an IPv6 address without brackets, and its port, None for the default."""

    name: str
    port: int | None


def parse_authority(text: bytes) -> Authority | None:
    """What a Host header, or the part of an origin behind `//`, names; None for what is not one.

    RFC 9110 section 7.2: what is not one is refused. It is never read in part, because whoever stands before
    or behind may read another part of it.
    """
    found = _AUTHORITY.fullmatch(text.lower())
    if found is None:
        return None
    address, name, digits = found.groups()
    port = int(digits) if digits else None
    if address is None:
        return Authority(name.decode(), port)
    try:
        return Authority(str(ipaddress.IPv6Address(address.decode())), port)
    except ValueError:
        return None


def is_foreign(headers: Mapping[bytes, bytes], trusted: Collection[bytes] = ()) -> bool:
    """Whether a browser says that a page of another site makes the request.

    What a browser sends by itself, and no page can change, decides: Sec-Fetch-Site where it is sent, else Origin
    beside Host. A request with neither is a program's; browsers of today send one of the two with whatever is
    not GET or HEAD. The rules are those of Go's `http.CrossOriginProtection`.

    Args:
        headers: names in lower case.
        trusted: origins whose pages may ask, such as `https://shop.example`.
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if origin is not None and origin in trusted:
        return False
    if site is not None:
        return site not in (b"same-origin", b"none")
    return origin is not None and not _is_own(origin, headers.get(b"host", b""))


def _is_own(origin: bytes, host: bytes) -> bool:
    """Whether an origin is the one that a Host header names; its scheme may be that of a proxy in front."""
    scheme, _, rest = origin.lower().partition(b"://")
    page, here = parse_authority(rest), parse_authority(host)
    default = _DEFAULT_PORTS.get(scheme)
    if page is None or here is None or default is None:
        return False
    return page.name == here.name and (page.port or default) == (here.port or default)
