"""What shows itself: in a notebook by its MIME bundle, in a format string by its format."""

from __future__ import annotations

from collections.abc import Callable, Collection

from fsm._errors import MissingExtra, UsageError

Draw = Callable[..., str | bytes]


def mime_bundle(
    plain: str, draw: Draw, include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> dict[str, str]:
    """The forms that a notebook chooses from: the picture as SVG, else Mermaid in Markdown, and words.

    Args:
        plain: the words, for a terminal.
        draw: `Workflow.diagram` or `Result.diagram`.
        include: MIME types that are asked for; all where it is None.
        exclude: MIME types that are not wanted.

    Source: IPython's `_repr_mimebundle_` (https://ipython.readthedocs.io/en/stable/config/integrating.html).
    """

    def is_wanted(mime: str) -> bool:
        return (include is None or mime in include) and mime not in (exclude or ())

    bundle = {"text/plain": plain} if is_wanted("text/plain") else {}
    if is_wanted("image/svg+xml"):
        try:
            return bundle | {"image/svg+xml": _text(draw("svg"))}
        except MissingExtra:
            pass  # Mermaid needs nothing, and the front ends draw it
    if is_wanted("text/markdown"):
        bundle["text/markdown"] = f"```mermaid\n{_text(draw('mermaid')).strip()}\n```"
    return bundle


def formatted(draw: Draw, spec: str) -> str:
    """`f"{Support:mermaid}"`, `f"{Support:svg,full}"`: a format, and a detail after a comma.

    Raises:
        UsageError: a format or a detail that is not known, or one that is no text.
    """
    format, _, detail = spec.partition(",")
    drawn = draw(format.strip(), **({"detail": detail.strip()} if detail else {}))
    if isinstance(drawn, bytes):
        msg = f"{format.strip()} is no text: write diagram({format.strip()!r}) to a file"
        raise UsageError(msg)
    return drawn


def _text(drawn: str | bytes) -> str:
    return drawn if isinstance(drawn, str) else drawn.decode()
