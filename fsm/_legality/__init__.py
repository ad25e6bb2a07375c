"""What a Messages request may look like: the rules as a step function over its messages.

`Legality.step` takes one message and says which rules it breaks; `violations` is its fold over a whole request body.
Our own sends, the emulator, the audit of foreign requests and `watch` all ask here, so no rule has a second copy.

    profile   what one model or endpoint refuses beyond the rules that hold for all
    findings  `Violation`, and refusals in the API's own words
    seen      the set of ids, shared between the states of one conversation
    blocks    what one content block may look like by itself
    turns     `Legality`: how the turns of a conversation fit together
    asked     what the checks of a body share, and the walk over its blocks
    envelope  the parameters around the messages, in the API's order; tools, schemas, thinking, marks, media and
              features hold those that need more than a few lines
    request   `violations`: all of it
    repaired  what can be mended by appending alone

docs/rules.md says of each rule where it is held, and for whom.
"""

from __future__ import annotations

from ._findings import Violation
from ._profile import LENIENT, STRICT, VERSION, Profile, profile_of
from ._repaired import repaired
from ._request import REQUIRED, violations
from ._turns import Legality

__all__ = [
    "LENIENT",
    "REQUIRED",
    "STRICT",
    "VERSION",
    "Legality",
    "Profile",
    "Violation",
    "profile_of",
    "repaired",
    "violations",
]
