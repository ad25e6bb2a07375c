"""`FaultPlan`: which requests go wrong, and how (V7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from attrs import field, frozen

from fsm.testing import faults as built
from fsm.testing._faults import Fault
from fsm.testing._reply import Reply


@frozen
class FaultPlan:
    """Which requests go wrong, and how: by their number, from 1, or by chance that a seed decides.

    Only requests that would have been answered count: a request that breaks a rule has its own answer. A faulted
    request leaves nothing behind — no reply of the script is used, nothing is cached, no thread goes on — unless its
    fault lets the reply arrive; so a client that tries again meets the same replies as without faults.

    Params:
        faults: a fault by the number of its request; a plain `Reply` is sent in place of the script's.

    Raises:
        TypeError: not numbers of requests with faults or replies; the message says what to write.
        ValueError: a number is less than 1.
    """

    faults: Mapping[int, Fault | Reply] = field(factory=dict)
    _draw: Callable[[int], Fault | Reply | None] | None = field(default=None, kw_only=True, repr=False)

    def __attrs_post_init__(self) -> None:
        """Refuse what is no number of a request, and what is no fault."""
        for number, fault in self.faults.items():
            if not isinstance(number, int) or isinstance(number, bool):
                raise TypeError(f"FaultPlan counts requests by whole numbers from 1, not {number!r}")
            if not isinstance(fault, Fault | Reply):
                raise TypeError(
                    f"the fault of request {number} is {fault!r}: build it with fsm.testing.faults, such as "
                    'faults.row("E16"), or with fsm.testing.replies'
                )
        wrong = [number for number in self.faults if number < 1]
        if wrong:
            raise ValueError(f"FaultPlan counts requests from 1, not {wrong[0]}")

    @classmethod
    def random(cls, seed: int, *, rate: float = 0.3, kinds: Sequence[str] | None = None, longest: int = 3) -> FaultPlan:
        """A plan in which each request goes wrong by chance; the same for the same arguments.

        Params:
            seed: decides everything.
            rate: how many requests go wrong, from 0 to 1.
            kinds: names of `fsm.testing.faults.KINDS`; by default those after which trying again helps.
            longest: at most so many faults come one after another, so that bounded retries reach the end.

        Raises:
            ValueError: a kind is unknown, or a number is out of its range.
        """
        names = tuple(built.RETRYABLE if kinds is None else kinds)
        unknown = [name for name in names if name not in built.KINDS]
        if unknown or not names:
            raise ValueError(f"kinds={list(names)}: choose from {', '.join(built.KINDS)}")
        if not 0 <= rate <= 1 or longest < 0:
            raise ValueError(f"rate={rate} is a share from 0 to 1, and longest={longest} counts faults from 0")
        runs = [0]  # runs[n]: how many requests in a row have gone wrong up to the n-th

        def draw(number: int) -> Fault | Reply | None:
            while len(runs) <= number:
                is_hit = Random(f"{seed}/{len(runs)}").random() < rate and runs[-1] < longest  # noqa: S311  # no secret
                runs.append(runs[-1] + 1 if is_hit else 0)
            if not runs[number]:
                return None
            chance = Random(f"{seed}/{number}/kind")  # noqa: S311
            return built.KINDS[chance.choice(names)](chance)

        return cls(draw=draw)

    def at(self, number: int) -> Fault | None:
        """What happens to the request of this number, from 1; None if nothing does."""
        found = self.faults.get(number)
        if found is None and self._draw is not None:
            found = self._draw(number)
        return Fault(name=_name(found), answer=found) if isinstance(found, Reply) else found


def _name(reply: Reply) -> str:
    kind = str(reply.error["type"]) if reply.error else reply.kind
    return f"{kind} {reply.status}"
