"""The loop detector: is this conversation going round without getting anywhere, and whose fault is it?

Theory of operation
    A detector is a value. It is told what happened, in order: a request is about to leave (`requested`), a reply came
    (`replied`), results are about to be sent (`answered`), something came from outside (`window_reset`). Each method
    returns the next detector and at most one finding; the old detector stays valid. No clock, no randomness: folding a
    journal again finds the same.

    Two kinds of rules look at two kinds of things.

    D1, D11   look at ids and requests. A correct client and the real API cannot break them, so one occurrence is enough
              and the fault is never the model's.
    D2 …      look at steps. A step is one reply with the results of its calls: a set of pairs (call key, result key).
              Parallel identical calls are one step. Keys are hashes of canonical JSON: sorted keys, numbers by value.

    The steps since the last external event (a person spoke or approved, a limit was lifted), at most `WINDOW` of them,
    are the window. A step in which a key is new, or has a result that it did not have the last time, is progress; D2
    counts the same pair in steps after the last progress only. So polling that changes, tests that run again after an
    edit, pages of a listing and writes that all say "ok" do not count, and a clock in a result is progress.

    After a finding the rule starts to count afresh, so that a watched loop that goes on is not reported at every turn.

Where the other rules go
    D3-D6 judge steps: add a function to `STEP_RULES` in `_window`; it gets the window and returns a finding. D7-D10
    judge replies: they belong into `Detector.replied`. D12-D14 are counters of the conversation, not of the detector.
    D15 is opt-in and would be an option of `start`.

Files
    finding   `Finding`: what was found, whose fault it is, what to do
    keys      canonical bytes of a value, and the keys of calls and results
    window    the steps that are compared, and the rules that compare them
    detector  `Detector`

What is deliberately not done
    Soft warnings are not put into the conversation. Text is never compared by similarity. A model is never asked.
"""

from __future__ import annotations

from ._detector import Detector
from ._finding import Fault, Finding, Kind, shown
from ._keys import call_key, canonical, result_key
from ._window import REPEATS, WINDOW

__all__ = [
    "REPEATS",
    "WINDOW",
    "Detector",
    "Fault",
    "Finding",
    "Kind",
    "call_key",
    "canonical",
    "result_key",
    "shown",
]
