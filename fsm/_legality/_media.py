"""Images and documents as far as they can be judged without decoding them (R55, R56)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _findings as findings
from ._findings import said

if TYPE_CHECKING:
    from ._asked import Asked
    from ._findings import Violation

__all__ = ["check_media"]

_MEDIA = {
    "image": (
        ("image/jpeg", "image/png", "image/gif", "image/webp"),
        "'image/jpeg', 'image/png', 'image/gif' or 'image/webp'",
    ),
    "document": (("application/pdf",), "'application/pdf'"),
}
_MOST_IMAGES = 600  # of any model
_MB = 1024 * 1024
_LARGEST = {"image": 10, "document": 32}  # megabytes of base64
_FIELDS = {"base64": ("media_type", "data"), "url": ("url",), "file": ("file_id",)}


def check_media(asked: Asked) -> Iterator[Violation]:
    """R55, R56: kinds, sizes and the number of images; those inside tool results count too."""
    images = 0
    for at, kind, source in _sources(asked):
        images += kind == "image"
        yield from _source(at, kind, source)
    most = asked.profile.max_images or _MOST_IMAGES
    if images > most:
        text = f"at most {most} images are allowed in one request. Found {images}"
        yield said("R55", "messages", text, "Send fewer images, or summarise older turns.")


def _sources(asked: Asked) -> Iterator[tuple[str, str, object]]:
    for block in asked.blocks:
        yield from _of(block.value, block.kind, block.at)
        inner = block.value.get("content") if block.kind == "tool_result" else None
        for index, part in enumerate(inner if isinstance(inner, list | tuple) else ()):
            if isinstance(part, Mapping):
                yield from _of(part, part.get("type"), f"{block.at}.tool_result.content.{index}")


def _of(block: Mapping[str, Any], kind: object, at: str) -> Iterator[tuple[str, str, object]]:
    if isinstance(kind, str) and kind in _LARGEST:
        yield f"{at}.{kind}", kind, block.get("source")


def _source(at: str, kind: str, source: object) -> Iterator[Violation]:
    rule = "R55" if kind == "image" else "R56"
    if source is None:
        yield findings.missing(f"{at}.source", rule)
        return
    if not isinstance(source, Mapping):
        yield findings.wrong_type(f"{at}.source", "an object", rule)
        return
    form = source.get("type")
    form = form if isinstance(form, str) else ""
    where = f"{at}.source.{form}"
    if not form:
        yield findings.missing(f"{at}.source.type", rule)
    for key in _FIELDS.get(form, ()):
        if key not in source:
            yield findings.missing(f"{where}.{key}", rule)
        elif not isinstance(source[key], str):
            yield findings.wrong_type(f"{where}.{key}", "a valid string", rule)
    if form == "base64":
        yield from _encoded(where, kind, source.get("media_type"), source.get("data"), rule)


def _encoded(where: str, kind: str, media: object, data: object, rule: str) -> Iterator[Violation]:
    names, wanted = _MEDIA[kind]
    if isinstance(media, str) and media not in names:
        yield findings.wrong_type(f"{where}.media_type", wanted, rule)
    largest = _LARGEST[kind] * _MB
    if isinstance(data, str) and len(data) > largest:
        text = f"{kind} exceeds {_LARGEST[kind]} MB maximum: {len(data)} bytes > {largest} bytes"
        yield said(rule, where, text, "Send a smaller one, or upload it and send its file_id.")
