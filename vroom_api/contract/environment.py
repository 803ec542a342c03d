"""Environment variables: how they are read, and those that training and service both read.

What the service alone reads is in `vroom_api.settings`, what training and its pages read in
`vroom_assets.settings`; docs/settings.md lists all of them. Each is read when it is asked for.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path

from vroom_api.contract.manifest import FORECAST_NAME
from vroom_api.contract.origins import parse_authority
from vroom_api.contract.pages import Pages

DEFAULT_UMASK = 0o077
PORTS = {"VROOM_DAGSTER_PORT": 3000, "VROOM_API_PORT": 8000, "VROOM_MLFLOW_PORT": 5000}
_SCHEDULER = re.compile(r"(?:tcp|tls)://([^/?#]+)")
_BETWEEN_ADDRESSES = re.compile(r"[,;]?\s+|,(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_ORIGIN = re.compile(r"https?://([^/?#]+)")


class BadSetting(Exception):
    """A setting that nothing can start with; the message names the variable, its value and what is allowed."""


class Environment:
    """Typed reading of variables, by default the process's own; an empty one counts as not set.

    Every method but `is_set` raises BadSetting where a value is not what it allows.
    """

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables

    def is_set(self, name: str) -> bool:
        return bool(self.text(name, ""))

    def text(self, name: str, default: str) -> str:
        return self._variables.get(name, "").strip() or default

    def folder(self, name: str, default: Path | str) -> Path:
        """An absolute path; the folder need not be there yet."""
        text = self.text(name, str(default))
        if os.path.isfile(text):
            raise BadSetting(f"{name}={text!r}: it is a file; use the path of a folder")
        return Path(text).absolute()

    def forecast(self, name: str, default: str) -> str:
        text = self.text(name, default)
        if not FORECAST_NAME.fullmatch(text):
            raise BadSetting(f"{name}={text!r}: use the name of a forecast, e.g. {default}")
        return text

    def number(self, name: str, default: float, low: float, high: float) -> float:
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise BadSetting(f"{name}={text!r}: use a number from {low:g} to {high:g}")
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        text = self.text(name, str(default))
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise BadSetting(f"{name}={text!r}: use a whole number from {low} to {high}")
        return value

    def part_of(self, name: str, whole: int, high: int) -> int:
        """A whole number up to `high`, or a share of `whole` as `50%`, rounded down and at least 1; 0 where it is not set."""
        text = self.text(name, "0")
        if not text.endswith("%"):
            try:
                value = int(text)
            except ValueError:
                value = -1
            if 0 <= value <= high:
                return value
        elif text[:-1].isdecimal() and 1 <= int(text[:-1]) <= 100:
            return max(1, whole * int(text[:-1]) // 100)
        raise BadSetting(f"{name}={text!r}: use a whole number from 0 to {high}, or a share from 1% to 100%")

    def port(self, name: str) -> int:
        return self.integer(name, PORTS[name], 1, 65_535)

    def umask(self, name: str, default: int) -> int:
        """An octal mask that takes no rights from the owner."""
        text = self.text(name, f"{default:03o}")
        if not (set(text) <= set("01234567")) or (mask := int(text, 8)) & ~0o077:
            raise BadSetting(
                f"{name}={text!r}: use 077 (the owner alone), 027 (the group reads) or another from 000 to 077"
            )
        return mask

    def switch(self, name: str, default: bool) -> bool:
        return self.choice(name, "on" if default else "off", ("on", "off")) == "on"

    def choice(self, name: str, default: str, options: tuple[str, ...]) -> str:
        text = self.text(name, default).lower()
        if text not in options:
            raise BadSetting(f"{name}={text!r}: use {', '.join(options[:-1])} or {options[-1]}")
        return text

    def host(self, name: str, default: str) -> str:
        """The name or address of one host, in lower case."""
        text = self.text(name, default)
        if (found := _host(text)) is None:
            raise BadSetting(f"{name}={text!r}: use a name or an address without a port, e.g. {default}")
        return found

    def hosts(self, name: str, default: tuple[str, ...], *, any_by_star: bool = False) -> tuple[str, ...]:
        """Names of hosts, in lower case."""
        found = []
        for part in self._parts(name, default):
            host = part if any_by_star and part == "*" else _host(part)
            if host is None:
                star = ", or * for any" if any_by_star else ""
                raise BadSetting(
                    f"{name}: {part!r}: use names without ports, comma-separated, e.g. vroom.example{star}"
                )
            found.append(host)
        return tuple(found)

    def origins(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Origins as browsers send them, in lower case."""
        parts = [part.lower() for part in self._parts(name, default)]
        for part in parts:
            origin = _ORIGIN.fullmatch(part)
            if origin is None or parse_authority(origin[1].encode()) is None:
                raise BadSetting(
                    f"{name}: {part!r}: use origins without a path, comma-separated, e.g. https://shop.example"
                )
        return tuple(parts)

    def address(self, name: str) -> str | None:
        """Where people open a page, e.g. http://127.0.0.1:3000; a path may follow, None where it is not set."""
        text = self.text(name, "").rstrip("/")
        if not text:
            return None
        origin = _ORIGIN.match(text)
        if origin is None or parse_authority(origin[1].encode()) is None or not text.isascii():
            raise BadSetting(f"{name}={text!r}: use an address like https://dagster.example")
        return text

    def addresses(self, name: str) -> tuple[str, ...]:
        """Addresses, separated by blanks, or by commas before the next scheme: an address may hold a comma itself."""
        return tuple(filter(None, _BETWEEN_ADDRESSES.split(self.text(name, ""))))

    def scheduler(self, name: str) -> str | None:
        """The address of a Dask scheduler, None where it is not set."""
        text = self.text(name, "")
        if not text:
            return None
        match = _SCHEDULER.fullmatch(text)
        authority = parse_authority(match[1].encode()) if match else None
        if authority is None or authority.port is None:
            raise BadSetting(
                f"{name}={text!r}: use an address like tcp://scheduler:8786 or tls://scheduler:8786"
            )
        return text

    def database(self, name: str, default: str) -> str:
        """A database's URL. It may hold a password, so the error does not repeat it."""
        import sqlalchemy as sa  # the supervisor goes without it, and stays small

        text = self.text(name, default)
        try:
            sa.make_url(text)
        except sa.exc.ArgumentError:
            raise BadSetting(
                f"{name}: not a database URL; use one like {default} or "
                "postgresql+psycopg://user:password@host/database"
            ) from None
        return text

    def _parts(self, name: str, default: tuple[str, ...]) -> list[str]:
        text = self.text(name, ",".join(default))
        return [part.strip() for part in text.split(",") if part.strip()]


def _host(text: str) -> str | None:
    """A host as `parse_authority` names it, so that the two can be compared; an IPv6 address needs no brackets."""
    bare_ipv6 = ":" in text and not text.startswith("[")
    found = parse_authority((f"[{text}]" if bare_ipv6 else text).encode())
    without_port = found is not None and found.port is None and (bare_ipv6 or not text.endswith(":"))
    return found.name if found is not None and without_port else None


def home(variables: Mapping[str, str] | None = None) -> Path:
    """Where all state lives: VROOM_HOME, else ``var`` under the working directory.

    Raises:
        BadSetting: it is a file.
    """
    return Environment(variables).folder("VROOM_HOME", "var")


def database_url(variables: Mapping[str, str] | None = None) -> str:
    """The serving database: VROOM_DATABASE_URL, else a SQLite file in the home.

    Raises:
        BadSetting: it is not a URL.
    """
    return Environment(variables).database("VROOM_DATABASE_URL", sqlite_url(home(variables) / "serving.db"))


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, whatever its folders are called: `?`, `#` and `%` mean something in a URL."""
    import sqlalchemy as sa  # as above

    return sa.URL.create("sqlite", database=str(path)).render_as_string()


def stored_in_database(variables: Mapping[str, str] | None = None) -> bool:
    """Whether the stored inputs of all entities are in the serving database: VROOM_STORED_INPUTS, else in files.

    Raises:
        BadSetting: it is neither file nor database.
    """
    return Environment(variables).choice("VROOM_STORED_INPUTS", "file", ("file", "database")) == "database"


def forecast(variables: Mapping[str, str] | None = None) -> str:
    """The forecast of the service's short routes, which the first start trains; the sensors train the others.

    Raises:
        BadSetting: it cannot be the name of a forecast.
    """
    return Environment(variables).forecast("VROOM_FORECAST", "reservations")


def umask(variables: Mapping[str, str] | None = None) -> int:
    """What is taken from the rights of files and folders in the home.

    Raises:
        BadSetting: it is not a umask, or takes rights from the owner.
    """
    return Environment(variables).umask("VROOM_UMASK", DEFAULT_UMASK)


def host(variables: Mapping[str, str] | None = None) -> str:
    """The address that the service listens on.

    Raises:
        BadSetting: it is neither a name nor an address.
    """
    return Environment(variables).host("VROOM_HOST", "127.0.0.1")


def keys_required(variables: Mapping[str, str] | None = None) -> bool:
    """Whether the service asks for API keys: VROOM_AUTH, else wherever others than this machine reach it.

    Raises:
        BadSetting: it is switched off where others reach it.
    """
    address = host(variables)
    required = Environment(variables).switch("VROOM_AUTH", not _is_loopback(address))
    if not (required or _is_loopback(address)):
        raise BadSetting(
            f"VROOM_AUTH=off with VROOM_HOST={address}: without API keys the service is for this machine only; "
            "use VROOM_AUTH=on, or VROOM_HOST=127.0.0.1"
        )
    return required


def pages(variables: Mapping[str, str] | None = None) -> Pages:
    """The addresses of the pages, which `make run` sets.

    Raises:
        BadSetting: one is not the address of a page.
    """
    found = Environment(variables)
    return Pages(
        found.address("VROOM_SERVICE_URL"),
        found.address("VROOM_DAGSTER_URL"),
        found.address("VROOM_MLFLOW_URL"),
    )


def _is_loopback(address: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
