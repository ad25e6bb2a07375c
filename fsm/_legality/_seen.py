"""The set of ids that a conversation has used, cheap to extend and safe to branch.

Every state of a conversation needs the set of all ids before it, and old states stay usable. Copying the set at each
step would make turn 1000 dearer than turn 10. Instead the states of one line share a dict that is only added to:

    first   id   -> number of the step that brought it
    claims  step -> the claim of whoever made that step in this dict

and a state keeps the number of steps that it knows, its `bound`. An id is in the set if `first[id] < bound`: what later
states have added has a higher number, so an older state does not see it.

Two states that are stepped from one state have the same bound, and only one of them may write under that number. It is
the one whose claim `claims.setdefault(bound, claim)` gives back; the other one copies what it knows into dicts of its
own. A line that never branches therefore never copies, and a branch pays once. `setdefault` is one indivisible
operation, so this also holds when two threads step one state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Seen"]


@frozen(eq=False)
class Seen:
    """A set of ids that is extended by making a new one; equal to another with the same ids."""

    _first: dict[str, int] = field(factory=dict, repr=False)
    _claims: dict[int, object] = field(factory=dict, repr=False)
    _bound: int = 0

    def __contains__(self, name: object) -> bool:
        """Whether the id came before this state."""
        step = self._first.get(name)  # type: ignore[call-overload]  # any key may be asked for
        return step is not None and step < self._bound

    def __iter__(self) -> Iterator[str]:
        """Give the ids; this takes time that grows with their number."""
        return (name for name, step in self._first.copy().items() if step < self._bound)

    def __eq__(self, other: object) -> bool:
        """Compare the ids; this takes time that grows with their number."""
        return frozenset(self) == frozenset(other) if isinstance(other, Seen) else NotImplemented

    def __hash__(self) -> int:
        """Give the hash of the ids; this takes time that grows with their number."""
        return hash(frozenset(self))

    def add(self, names: Iterable[str]) -> Seen:
        """Return a set that also has `names`; this one stays as it is."""
        fresh = [name for name in names if name not in self]
        if not fresh:
            return self
        claim = object()
        first, claims = self._first, self._claims
        if claims.setdefault(self._bound, claim) is not claim:
            first = {name: step for name, step in first.copy().items() if step < self._bound}
            claims = {self._bound: claim}
        for name in fresh:
            first[name] = self._bound
        return Seen(first, claims, self._bound + 1)
