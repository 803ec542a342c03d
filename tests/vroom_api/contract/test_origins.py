"""Where a request is addressed to, and which page made it."""

import pytest

from vroom_api.contract.origins import Authority, is_foreign, parse_authority


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"localhost", Authority("localhost", None)),
        (b"LocalHost:8000", Authority("localhost", 8000)),
        (b"[::1]:8000", Authority("::1", 8000)),
        (b"[0:0:0:0:0:0:0:1]", Authority("::1", None)),
        (b"127.0.0.1:", Authority("127.0.0.1", None)),
        *(
            (text, None)
            for text in (b"", b"[::1]evil", b"a:b", b"a:1:2", b"a b", b"u@a", b"[a", b"[:::::]", b"a\n")
        ),
    ],
)
def test_a_host_is_read_whole_or_not_at_all(text: bytes, found: Authority | None) -> None:
    assert parse_authority(text) == found


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),  # a program
        ({b"sec-fetch-site": b"same-origin", b"origin": b"https://proxy.example"}, False),
        ({b"sec-fetch-site": b"none"}, False),
        ({b"sec-fetch-site": b"same-site"}, True),
        ({b"sec-fetch-site": b"cross-site"}, True),
        ({b"sec-fetch-site": b"cross-site", b"origin": b"https://shop.example"}, False),  # is trusted
        ({b"origin": b"https://here.example"}, False),
        ({b"origin": b"http://here.example:80", b"host": b"here.example"}, False),
        ({b"origin": b"http://here.example:81"}, True),
        ({b"origin": b"http://here.example.evil.example"}, True),
        ({b"origin": b"null"}, True),
        ({b"origin": b"ftp://here.example"}, True),
        ({b"origin": b""}, True),
    ],
)
def test_a_browser_tells_which_page_asks(headers: dict[bytes, bytes], foreign: bool) -> None:
    given = {b"host": b"here.example"} | headers
    assert is_foreign(given, {b"https://shop.example"}) is foreign
