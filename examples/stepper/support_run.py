"""Steps through a run in the browser: the support desk against the emulator, on a day when much goes wrong.

Use it to see what `result.diagram("html")` gives: one file, without a server or the network. From a journal it is
`fsm diagram examples/support.py:Support --run RUN --journal runs.db -o run.html`.

    python -m examples.stepper.support_run run.html
"""

from __future__ import annotations

import sys
from pathlib import Path

from examples.support import Shop, Support
from fsm import approve, run
from fsm.testing import Emulator, replies

refund = {"number": "7", "euros": 249.0}
emulator = Emulator(
    [
        replies.tool_uses(
            ("find_order", {"number": "7"}), ("find_order", {"number": "8"}), text="I look at both orders."
        ),
        replies.overloaded(retry_after=0.5),
        replies.max_tokens("Order 7 is the espresso machine.", tool=("refund", refund)),
        replies.tool_use("refund", refund, text="Order 7 is the espresso machine. I ask for the refund."),
        replies.text("Done: 249.00 euros for your espresso machine, order 7, are on their way back to you."),
    ]
)

if __name__ == "__main__":
    question = "My espresso machine arrived broken. It is order 7 or order 8, please refund it."
    result = run(Support, question, deps=Shop(), client=emulator.client(), ask=lambda _: approve())
    page = Path(sys.argv[1] if len(sys.argv) > 1 else "support-run.html")
    page.write_text(str(result.diagram("html")), "utf-8")
    print(f"{page}: open it, then press the right arrow key")
