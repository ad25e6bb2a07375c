"""What to know about the models of a workflow before it runs: names that are not in our table, ends that are near.

`fsm check` prints it, and the first run of a process logs it. The dates are the SDK's own; they are read from its
source, since importing it takes a second and `fsm check` needs nothing else of it.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache

from ._models import model_facts

_TABLE = "DEPRECATED_MODELS"


def model_notes(models: Iterable[str]) -> tuple[str, ...]:
    """One sentence for each model that there is something to know about, in the order given."""
    found = []
    for model in dict.fromkeys(models):
        if not model_facts(model).is_known:
            found.append(
                f"{model} is not in this version's table: no output cap is assumed, and it is treated as one that "
                "binds its thinking to the history (R35)"
            )
        if (day := retirement_dates().get(model)) is not None:
            found.append(f"model {model} is retired on {day}, says the installed anthropic SDK: move to a newer one")
    return tuple(found)


@cache
def retirement_dates() -> Mapping[str, str]:
    """The days on which models are retired on the Claude API, as the SDK's own table has them; empty without one."""
    from pathlib import Path  # nothing else that `import fsm` brings needs it

    package = importlib.util.find_spec("anthropic")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        try:
            source = (Path(folder) / "resources" / "messages" / "messages.py").read_text("utf-8")
            for node in ast.parse(source).body:
                if isinstance(node, ast.Assign) and any(getattr(t, "id", None) == _TABLE for t in node.targets):
                    return dict(ast.literal_eval(node.value))
        except (OSError, SyntaxError, ValueError):
            continue
    return {}
