"""The gallery as one HTML page that stands alone: every example with its class, its picture and a run, and the peers.

It has no script and asks for nothing: the policy in its head allows its one style sheet by hash, and pictures as data.
Whatever an example says is text, escaped where it is put in.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from string import Template
from xml.etree import ElementTree as ET

from fsm._graph import Edge
from fsm.diagram._looks import LOOKS, css_colours
from fsm.diagram._page._html import policy_of

from ._examples import Example
from ._peers import FOLDER, Machine, Peers
from ._story import Told, question_of, steps, story_of

_SVG = "http://www.w3.org/2000/svg"
_BESIDE = 95  # characters: longer lines have no room beside a picture
_WORDS = re.compile(
    r'(?P<quiet>"""[\s\S]*?"""|[fr]?"(?:[^"\\\n]|\\.)*"|\.\.\.)'
    rf"|\b(?P<kind>{'|'.join(LOOKS)})(?=\()"
    r"|\b(?P<word>class|lambda|None|True|False|not|and|or|if|else|for|in)\b"
)


def index_html(examples: Iterable[Example], peers: Peers | None) -> str:
    """The whole page.

    Raises:
        MissingExtra: SVG cannot be drawn here.
    """
    examples = list(examples)
    here = files(__package__)
    style = css_colours("auto") + _sheet(examples) + (here / "gallery.css").read_text("utf-8")
    links = [_link(f"#{each.stem}", each.workflow.name) for each in examples]
    if peers is not None:
        links.append(_link("#peers", "Elsewhere"))
    return Template((here / "gallery.html").read_text("utf-8")).substitute(
        policy=policy_of([style]),
        style=style,
        links="\n".join(links),
        examples="\n".join(_example(each, is_first=place == 0) for place, each in enumerate(examples)),
        peers="" if peers is None else _peers(peers, {each.stem: each for each in examples}),
    )


def without_pictures(page: str) -> str:
    """A page without what depends on the version of Graphviz, so that the rest can be compared."""
    return re.sub(r"<svg\b.*?</svg>", "<svg></svg>", page, flags=re.DOTALL)


def _example(example: Example, *, is_first: bool) -> str:
    stem = example.stem
    run = _inline(example.ran("svg", detail="simple", theme="auto"), f"{stem}-run")
    return "\n".join(
        (
            f'<section class="example" id="{_text(stem)}">',
            f"<h2>{_text(example.workflow.name)}</h2>",
            f'<p class="about">{_text(example.about)}</p>',
            f'<p class="use">{_ticked(example.use)}</p>',
            _declared(example, is_first=is_first),
            "<h3>One run</h3>",
            f'<p class="asked">{_text(question_of(example))}</p>',
            '<div class="pair">',
            f'<figure class="picture">{run}</figure>',
            _story(example),
            "</div>",
            "</section>",
        )
    )


def _declared(example: Example, *, is_first: bool) -> str:
    """The class and its rows beside the picture; long lines above both. The first picture sums the standard rows up."""
    first, last = example.lines
    source = _link(f"../{example.source}#L{first}-L{last}", f"{example.source}:{first}")
    code = f"<pre><code>{_coloured(example.code)}</code></pre><figcaption>{source}</figcaption>"
    code = f'<figure class="code">{code}</figure>'
    forms = {"SVG": "svg", "Mermaid": "mmd", "DOT": "dot", "JSON": "json"}
    links = " · ".join(_link(f"{example.stem}.{suffix}", form) for form, suffix in forms.items())
    drawn = _inline(example.drawn(detail="default" if is_first else "simple", theme="auto"), example.stem)
    picture = f'<figure class="picture">{drawn}<figcaption>{links}</figcaption></figure>'
    rows = _rows(example)
    if max(map(len, example.code.splitlines())) > _BESIDE:
        return f'{code}\n<div class="pair">\n{picture}\n{rows}\n</div>'
    return f'<div class="pair">\n<div class="declared">{code}\n{rows}</div>\n{picture}\n</div>'


def _story(example: Example) -> str:
    """What happened in the run, move by move, and the way to its page."""
    run = steps(example)
    moves = "\n".join(map(_told, story_of(example)))
    return f"""<div class="story">
<ol>
{moves}
</ol>
<p class="end {"good" if run.end.is_ok else "bad"}">{_text(run.end.state)}: {_text(run.end.reason)}</p>
<p><a class="button" href="{_text(example.stem)}-run.html">Step through it</a></p>
</div>"""


def _told(told: Told) -> str:
    step = told.step
    guard = f" [{step.guard}]" if step.guard else ""
    effects = f" / {', '.join(step.effects)}" if step.effects else ""
    rule = f"<small>{_text(guard + effects)}</small>" if guard or effects else ""
    facts = "".join(f"<dt>{_text(who)}</dt><dd>{_text(words)}</dd>" for who, words in told.facts)
    way = f'<b>{_text(step.event)}</b>{rule} <span class="to">→ {_text(step.dest)}</span>'
    return f"<li>{way}{f'<dl>{facts}</dl>' if facts else ''}</li>"


def _rows(example: Example) -> str:
    """The rows that the class declares, as a table."""
    graph = example.workflow.graph
    own = [edge for edge in graph.edges if not edge.implied]
    words = ["state", "event", "guard", "effects", "next"]
    table = [[edge.source, edge.event, _guard(edge), ", ".join(map(str, edge.effects)), edge.dest] for edge in own]
    used = [place for place, _ in enumerate(words) if any(row[place] for row in table)]
    head = "".join(f'<th scope="col">{words[place]}</th>' for place in used)
    body = "\n".join(f"<tr>{''.join(f'<td>{_text(row[place])}</td>' for place in used)}</tr>" for row in table)
    return f"""<div class="rows"><table><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody></table>
<p class="small">and {len(graph.edges) - len(own)} standard rows</p></div>"""


def _guard(edge: Edge) -> str:
    return str(edge.guard or ("else" if edge.index else ""))


# --- peers -----------------------------------------------------------------------------------------------------------


def _peers(peers: Peers, examples: dict[str, Example]) -> str:
    machines = "\n".join(
        _machine(peers, machine, examples[machine.example]) for machine in peers.machines if machine.example in examples
    )
    ours = f"<dt>fsm</dt><dd>{_ticked(peers.ours)}</dd>"
    said = "".join(
        f"<dt>{_text(peer.name)}</dt><dd>{_ticked(peer.shows)} {_ticked(peer.lacks)} "
        f'<span class="small">Drawn by {_text(peer.made)}.</span></dd>'
        for peer in peers.peers
    )
    return f"""<section id="peers">
<h2>The same machine elsewhere</h2>
<p class="use">{_ticked(peers.about)}</p>
<dl class="peers">{ours}{said}</dl>
{machines}
</section>"""


def _machine(peers: Peers, machine: Machine, example: Example) -> str:
    ours = _inline(example.drawn(detail=machine.detail, theme="auto"), f"peers-{machine.stem}")
    figures = "".join(_figure(peers, machine, place) for place in range(len(peers.peers)))
    return f"""<h3>{_text(machine.title)}</h3>
<p class="use">{_text(machine.about)}</p>
<div class="peers">
<figure class="picture"><figcaption>fsm</figcaption>{ours}</figure>
{figures}</div>"""


def _figure(peers: Peers, machine: Machine, place: int) -> str:
    peer = peers.peers[place]
    file = peers.file(machine, peer)
    if not file.is_file():
        return ""
    data = base64.b64encode(file.read_bytes()).decode()
    alt = f"{machine.title}, drawn by {peer.name}"
    return (
        f'<figure class="peer"><figcaption>{_link(f"{FOLDER}/{file.name}", peer.name)}</figcaption>'
        f'<img alt="{_text(alt)}" src="data:image/svg+xml;base64,{data}"></figure>\n'
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def _inline(svg: str, prefix: str) -> str:
    """A picture for a page with several: its ids are its own, and its style sheet, the same for all, is the page's."""
    ET.register_namespace("", _SVG)
    root = ET.fromstring(svg)  # noqa: S314 - drawn by us just now
    for style in root.findall(f"{{{_SVG}}}style"):
        root.remove(style)
    for element in root.iter():
        if "id" in element.attrib:
            element.set("id", f"{prefix}-{element.get('id')}")
    return ET.tostring(root, encoding="unicode")


def _sheet(examples: Iterable[Example]) -> str:
    """What gives pictures of `theme="auto"` their dark colours."""
    for example in examples:
        return "".join(re.findall(r"<style>(.*?)</style>", example.drawn(theme="auto")))
    return ""


def _coloured(code: str) -> str:
    """Python with the kinds of states in the colours that they have in the picture."""
    return "".join(_pieces(code))


def _pieces(code: str) -> Iterator[str]:
    done = 0
    for found in _WORDS.finditer(code):
        yield _text(code[done : found.start()])
        role = found.lastgroup or ""
        name = f"k-{found[0]}" if role == "kind" else role
        yield f'<span class="{name}">{_text(found[0])}</span>'
        done = found.end()
    yield _text(code[done:])


def _ticked(words: str) -> str:
    """Text in which what stands in backticks is code."""
    parts = words.split("`")
    if len(parts) % 2 == 0:
        return _text(words)
    return "".join(f"<code>{_text(part)}</code>" if place % 2 else _text(part) for place, part in enumerate(parts))


def _link(to: str, words: str) -> str:
    return f'<a href="{_text(to)}">{_text(words)}</a>'


def _text(words: object) -> str:
    return escape(str(words))
