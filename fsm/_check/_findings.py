"""What is wrong with a declaration: one finding says who, where, what is wrong and what to do (W1-W14)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from attrs import field, frozen

Severity = Literal["error", "warning"]

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "W1": "complete",
        "W2": "deterministic",
        "W3": "reachable",
        "W4": "live",
        "W5": "halting",
        "W6": "answered",
        "W7": "refusal",
        "W8": "pause",
        "W9": "calls",
        "W10": "final",
        "W11": "history",
        "W12": "asked",
        "W13": "alphabet",
        "W14": "lawful",
    }
)
"""The checks, each with the one word that it is called by."""


@frozen
class Finding:
    """One fault of a declaration.

    `where` is file:line of the declaring statement; `path` the states walked to get there (W6, W7, W9, W12); `edge`
    source, event and index of the alternative that is at fault, where it is one.
    """

    id: str
    workflow: str
    state: str
    event: str | None
    where: str
    problem: str
    remedy: str
    severity: Severity = field(default="error", kw_only=True)
    path: tuple[str, ...] = field(default=(), kw_only=True)
    edge: tuple[str, str, int] | None = field(default=None, kw_only=True)

    @property
    def title(self) -> str:
        """The word for the check."""
        return TITLES[self.id]

    @property
    def is_error(self) -> bool:
        """Whether the workflow is refused because of it."""
        return self.severity == "error"

    def __str__(self) -> str:
        warning = "" if self.is_error else " (warning)"
        where = f" ({self.where})" if self.where else ""
        path = f"\n     Path: {' → '.join(self.path)}." if self.path else ""
        return f"{self.id} {self.title}{warning} · {self.problem}{where}. {self.remedy}{path}"
