"""The base of everything that one version writes and another reads."""

import msgspec


class ContractStruct(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a file between training and service.

    Readers pass over fields that they do not know, so a service of yesterday reads what the training of today
    has added. What an older reader must not pass over, because it would answer wrongly without it, raises
    `FORMAT` instead. Whether a file is undamaged is checked by its digest, not by its fields.
    """
