"""A support desk: Claude looks orders up freely, and pays back only what a person approved.

Use it when some tools may act on their own and others may not. `Tools` asks first: while a call waits for a person none
of its siblings has run, and a denied call is answered with the reason, so that Claude can suggest something else.
"""

from __future__ import annotations

from attrs import define, field

from fsm import Approval, Claude, Context, Final, Tools, Workflow, ask_on_terminal, run, tool


@define
class Shop:
    """The shop's orders: number -> what and how much in euros."""

    orders: dict[str, tuple[str, float]] = field(
        factory=lambda: {"7": ("espresso machine", 249.0), "8": ("kettle", 39.0)}
    )
    paid_back: list[tuple[str, float]] = field(factory=list)


@tool
def find_order(ctx: Context[Shop], number: str) -> str:
    """Look an order up by its number."""
    if number not in ctx.deps.orders:
        return f"There is no order {number}."
    what, euros = ctx.deps.orders[number]
    return f"Order {number}: {what}, {euros:.2f} euros, delivered."


@tool(needs_approval=True)
def refund(ctx: Context[Shop], number: str, euros: float) -> str:
    """Pay an order back."""
    ctx.deps.paid_back.append((number, euros))
    return f"{euros:.2f} euros paid back for order {number}."


class Support(Workflow):
    """Finds orders and refunds them, a refund only with a person's approval."""

    asking = Claude(model="claude-sonnet-5", max_tokens=1024, tools=[find_order, refund])
    calling = Tools()
    approving = Approval(within="1d")
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking, approval_needed=approving)
    approving.on(approved=calling, denied=asking, expired=asking)


if __name__ == "__main__":
    shop = Shop()
    result = run(Support, "Order 7 arrived broken, please refund it.", deps=shop, ask=ask_on_terminal)
    print(result.text)
    print(shop.paid_back)
