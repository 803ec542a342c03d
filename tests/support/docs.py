"""What docs have to be run: a collection of requests in the .http format of editors, and blocks of Python.

A collection has variables, and requests behind lines of three #.
"""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """One request, as it is written: variables are not filled in."""

    title: str
    method: str
    url: str
    headers: dict[str, str]
    body: str


def read(path: Path) -> tuple[dict[str, str], list[Request]]:
    """The variables of a collection and its requests, in their order."""
    head, *parts = re.split(r"^###", path.read_text(), flags=re.MULTILINE)
    variables = dict(re.findall(r"^@(\w+) = (.*)$", head, re.MULTILINE))
    return variables, [_request(part) for part in parts]


def python_of(page: Path) -> list[str]:
    """The blocks of Python in a page of the docs."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def _request(part: str) -> Request:
    head, _, body = part.strip().partition("\n\n")
    title, first, *headers = head.splitlines()
    method, url = first.split(" ")
    return Request(title.strip(), method, url, dict(line.split(": ", 1) for line in headers), body)


def filled(text: str, variables: dict[str, str]) -> str:
    """A text with the values of its variables; KeyError for one that is not defined."""
    return re.sub(r"{{(\w+)}}", lambda found: variables[found[1]], text)
