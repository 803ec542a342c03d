"""Ids of predictions and outcomes: UUIDv7, which ascend with time (RFC 9562, section 6.2, method 3)."""

from datetime import UTC, datetime, timedelta


def id_of(moment: int, tail: int) -> str:
    """The id of a moment.

    Args:
        moment: milliseconds since 1970 and 12 bits of their fraction.
        tail: the last 64 bits.
    """
    digits = f"{moment >> 12:012x}7{moment & 0xFFF:03x}{tail:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def time_of(identifier: str) -> datetime:
    """When an id was made, in UTC, to the microsecond."""
    milliseconds = int(identifier[:8] + identifier[9:13], 16)
    fraction = int(identifier[15:18], 16)
    microseconds = milliseconds * 1000 + (fraction * 1000 >> 12)
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)


def first_id(moment: datetime) -> str:
    """The least id of a moment: ids made before it are smaller, ids made after it are not."""
    microseconds = max((moment - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1), 0)
    milliseconds, rest = divmod(microseconds, 1000)
    return id_of(milliseconds << 12 | -(-(rest << 12) // 1000), 0x8000_0000_0000_0000)
