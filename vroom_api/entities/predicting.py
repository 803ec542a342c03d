"""A prediction by the id of an entity alone: its body as one of /predict."""

from typing import Final

import msgspec

from vroom_api.champion.loading import Champion
from vroom_api.entities.saving import ID, content_of, key_of, take_id
from vroom_api.predictions.refusals import faults
from vroom_api.problems import Fault, Problem
from vroom_api.texts import meant

OPTIONS: Final = ("level", "explain", "tags")


def request_by_id(champion: Champion, body: bytes) -> tuple[str, bytes]:
    """The id that a body names, and the body of /predict that it stands for.

    Raises:
        Problem: 400 for a body that is not JSON, 422 for one that names no id or anything but options.
    """
    content = content_of(body)
    key = key_of(champion.manifest)
    identifier = take_id(content, (ID, key))
    names = tuple(dict.fromkeys((key, ID, *OPTIONS)))
    found = (
        [Fault(key, f"{key}: missing; it is the id of a stored {champion.manifest.entity}")]
        if identifier is None
        else []
    )
    for name in list(content)[:20]:
        if name not in OPTIONS:
            allowed = ", ".join(names)
            detail = f"{name[:64]}: unknown field{meant(name, names)}; the fields are {allowed}; /predict takes inputs"
            found.append(Fault(name[:64], detail, allowed))
    options = {name: content[name] for name in OPTIONS if name in content}
    found += [fault for fault in faults(champion.manifest, options | {ID: "1"}) if fault.field in OPTIONS]
    if identifier is None or found:
        raise Problem(422, "invalid-input", "; ".join(fault.detail for fault in found), faults=found)
    return identifier, msgspec.json.encode(options | {ID: identifier})
