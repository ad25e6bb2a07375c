"""The steps of a conversation since the last external event, and the rules that compare them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from attrs import evolve, field, frozen

from fsm._facts import Call

from ._finding import Finding, shown

__all__ = ["REPEATS", "STEP_RULES", "WINDOW", "Group", "Window"]

WINDOW = 64
"""D2: how many steps are looked back."""

REPEATS = 5
"""D2: how often the same call may have the same result before the conversation is stuck."""

_Hit = tuple[int, int, tuple[str, ...]]  # a step in which a call had its present result: step, turn, ids of the calls
Group = tuple[Call, list[str], set[bytes]]  # the equal calls of one step: one of them, their ids, their result keys


@frozen
class _Track:
    """What is known of a call key: its newest results, their step, and the steps since the last progress with them."""

    results: AbstractSet[bytes]
    step: int
    hits: tuple[_Hit, ...]


@frozen
class Window:
    """The steps since the last external event, as far as the rules need them: one track for each call key.

    Bodies are not kept: results are hashes, and `newest` alone holds calls, those of the newest step.
    """

    tracks: dict[bytes, _Track] = field(factory=dict)  # in the order of their newest step
    newest: Mapping[bytes, Group] = field(factory=dict)
    step: int = 0
    progress: int = 0  # the step that last brought something new
    polling: frozenset[str] = frozenset()

    def stepped(self, groups: Mapping[bytes, Group], turn: int) -> Window:
        """The window with one step more, which was the answer to reply number `turn`."""
        step = self.step + 1
        first = step - WINDOW + 1
        tracks = self.tracks.copy()
        for key, track in self.tracks.items():
            if track.step >= first:
                break
            del tracks[key]
        # A key that comes again moves to the end.
        before = {key: tracks.pop(key, None) for key in groups}
        progress = self.progress
        for key, (_, _, results) in groups.items():
            if (was := before[key]) is None or was.results != results:
                progress = step
        since = max(first, progress)
        for key, (call, ids, results) in groups.items():
            was = before[key]
            hits = () if was is None or progress == step else tuple([hit for hit in was.hits if hit[0] >= since])
            if call.name not in self.polling:
                hits = (*hits, (step, turn, tuple(ids)))
            tracks[key] = _Track(results, step, hits)
        return Window(tracks, groups, step, progress, self.polling)

    def counted_afresh(self, keys: Iterable[bytes]) -> Window:
        """The window after a finding about `keys`."""
        fresh = {key: evolve(self.tracks[key], hits=()) for key in keys}
        return evolve(self, tracks={**self.tracks, **fresh})


def _no_progress(window: Window) -> tuple[Window, Finding | None]:
    """D2: the same call had the same result `REPEATS` times and nothing else changed in between."""
    due = [key for key in window.newest if len(window.tracks[key].hits) >= REPEATS]
    if not due:
        return window, None
    call, hits = window.newest[due[0]][0], window.tracks[due[0]].hits
    finding = Finding(
        "no_progress",
        "D2",
        "model",
        ids=tuple(name for _, _, names in hits for name in names),
        turns=tuple(turn for _, turn, _ in hits),
        call={"name": call.name, "input": dict(call.input)},
        why=f"The same call of '{shown(call.name)}' had the same result {len(hits)} times and nothing else changed.",
        todo="Say in the result what to do instead, change the prompt, or let a person decide.",
    )
    return window.counted_afresh(due), finding


StepRule = Callable[[Window], tuple[Window, Finding | None]]

STEP_RULES: tuple[StepRule, ...] = (_no_progress,)  # D3-D6 go here
