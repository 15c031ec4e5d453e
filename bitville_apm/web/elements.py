"""The pieces that pages are made of: templates filled, bars, times, tables, and the frame around every page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from twisted.python.filepath import FilePath
from twisted.web.server import Request
from twisted.web.template import Flattenable, Tag, XMLFile, flattenString, tags

import bitville_apm
from bitville_apm import limits
from bitville_apm.web import words
from bitville_apm.web.access import FORM_TOKEN
from bitville_apm.web.dimensions import DIMENSIONS, IN_HEAD
from bitville_apm.web.parameters import SPANS
from bitville_apm.web.prefix import prefix_of, prefixed
from bitville_apm.web.scope import SPAN_NAMES, Scope
from bitville_apm.web.static import Static

_FOLDER = FilePath(str(Path(__file__).parent / "templates"))
_TEMPLATES = {path.basename(): XMLFile(path) for path in _FOLDER.globChildren("*.xml")}


def panel(title: str, said: Flattenable, body: Flattenable) -> Tag:
    """A part of a page with its heading, and beside that a few quiet words."""
    line = tags.div(tags.h2(title), tags.span(said, class_="aside"), class_="line")
    return tags.section(line, body, class_="panel")


def fact(name: str, value: Flattenable, note: Flattenable = "") -> Tag:
    """One of a list of facts; the note stands below its value."""
    return tags.div(tags.dt(name), tags.dd(value, tags.small(note) if note else ""))


def filled(name: str, **slots: Flattenable) -> Tag:
    """A template with its slots filled."""
    (root,) = (part for part in _TEMPLATES[f"{name}.xml"].load() if isinstance(part, Tag))
    return root.clone(False).fillSlots(**slots)


@attrs.frozen
class Reader:
    """Who reads the page: their name, and what their forms carry."""

    name: str
    form_token: str


def _home(scope: Scope) -> str:
    return scope.url("/")


@attrs.frozen
class Frame:
    """What is around a page's content: `here` is its place in the navigation, `json` the same for programs.

    `address` gives the address of the page in another scope, for the menu of projects and the time ranges. `charts`:
    it has some. `markdown`: where the page is a text for tickets and chats.
    """

    title: str
    reader: Reader | None = None
    scope: Scope = attrs.field(factory=Scope)
    projects: Sequence[str] = ()
    here: str = ""
    json: str | None = None
    address: Callable[[Scope], str] = _home
    charts: bool = False
    markdown: str | None = None


async def page(request: Request, static: Static, frame: Frame, body: Flattenable) -> bytes:
    """A whole page. It is made before its first byte is sent, so that an error never leaves half of one."""
    root = filled(
        "layout",
        title=frame.title,
        icon=static.address("favicon.svg"),
        css=static.address("bitville.css"),
        script=static.address("bitville.js"),
        charts=_charts(static) if frame.charts else "",
        navigation=_navigation(frame, frame.reader) if frame.reader is not None else "",
        body=body,
        times=["Times are in ", tags.span("UTC", id="zone"), "."] if frame.reader is not None else "",
        json=tags.a("This page as JSON", href=frame.json, rel="alternate") if frame.json else "",
        markdown=tags.a("as Markdown", href=frame.markdown, rel="alternate") if frame.markdown else "",
        version=bitville_apm.__version__,
    )
    text = prefixed((await flattenString(request, root)).decode(), prefix_of(request))
    made = f"<!DOCTYPE html>\n{words.clean(text)}".encode()
    request.setHeader(b"Content-Type", b"text/html; charset=utf-8")
    request.setHeader(b"Content-Length", b"%d" % len(made))
    return made


def _charts(static: Static) -> list[Tag]:
    return [
        tags.link(rel="stylesheet", href=static.address("uplot.css")),
        tags.script(src=static.address("uplot.js"), defer="defer"),
        tags.script(src=static.address("charts.js"), defer="defer"),
    ]


def _navigation(frame: Frame, reader: Reader) -> Flattenable:
    places = [
        ("requests", "Requests", frame.scope.url("/")),
        ("spikes", "Spikes", attrs.evolve(frame.scope, host=None).url("/spikes")),
    ]
    for name in IN_HEAD:
        places.append((name, DIMENSIONS[name], frame.scope.url("/top", dimension=name)))
    links = [tags.li(current(tags.a(label, href=href), name == frame.here)) for name, label, href in places]
    log_out: Flattenable = ""
    if reader.form_token:
        log_out = tags.form(
            tags.input(type="hidden", name=FORM_TOKEN.decode(), value=reader.form_token),
            tags.button("Log out", type="submit", class_="plain"),
            method="post",
            action="/logout",
        )
    who = tags.div(
        _projects(frame),
        tags.span(reader.name, class_="person", title="Who is logged in"),
        log_out,
        class_="who",
    )
    return [tags.nav(tags.ul(links))(**{"aria-label": "Main"}), who]


def _projects(frame: Frame) -> Flattenable:
    chosen = frame.scope.project
    if len(frame.projects) < 2 and chosen is None:
        return tags.span(frame.projects[0], class_="project") if frame.projects else ""
    choices = []
    for name in (None, *frame.projects):
        link = tags.a(_project(name), href=frame.address(attrs.evolve(frame.scope, project=name)))
        choices.append(tags.li(current(link, name == chosen)))
    return tags.details(tags.summary(_project(chosen)), tags.ul(choices), class_="menu")


def _project(name: str | None) -> str:
    return "All projects" if name is None else name


def current(tag: Tag, yes: bool) -> Tag:
    """A link, marked when it leads to where the reader is."""
    return tag(**{"aria-current": "page"}) if yes else tag


def ranges(frame: Frame, now: float) -> Tag:
    """The time ranges to choose from, and a link by which this one stays what it is."""
    links = [
        current(
            tags.a(SPAN_NAMES[name], href=frame.address(attrs.evolve(frame.scope, last=name, start=None, end=None))),
            name == frame.scope.last,
        )
        for name in SPANS
    ]
    fixed: Flattenable = ""
    if frame.scope.last is not None:
        fixed = tags.a(
            "Link to exactly this time",
            href=frame.address(frame.scope.fixed(now)),
            class_="fixed",
            title="An address that shows the same times tomorrow",
        )
    return tags.div(
        tags.div(links, class_="choice", role="group")(**{"aria-label": "Time range"}), fixed, class_="ranges"
    )


def time(at: float, style: str = "clock") -> Tag:
    """A moment; the script puts it into the reader's zone. `style`: clock (today's without the day), time (where the
    day is told elsewhere), full, or ago (full, and how long ago where scripts run).
    """
    text = words.iso(at)[11:19] if style == "time" else words.moment(at)
    return tags.time(text, datetime=words.iso(at))(**{"data-style": style})


def window(scope: Scope, start: float | None, end: float | None) -> Flattenable:
    """A range in words: its name, or its two ends."""
    if scope.last is not None:
        return f"in {scope.words()}"
    ends: list[Flattenable] = []
    if start is not None:
        ends += ["from ", time(start, "full")]
    if end is not None:
        ends += [" to ", time(end, "full")]
    return tags.span(ends, class_="window")


def bar(part: float, whole: float, kind: str = "") -> Tag:
    """How much of a whole; the number beside it says the same in words."""
    percent = 100 * min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0
    rect = Tag("rect")(width=f"{percent:.2f}%", height="100%")
    return Tag("svg")(rect, class_=f"bar {kind}".rstrip())(**{"aria-hidden": "true", "focusable": "false"})


def stack(parts: Sequence[tuple[str, float]], whole: float, look: str = "stack") -> Tag:
    """Several parts of one whole side by side, each of a kind that the style sheet colours."""
    at, rects = 0.0, []
    for kind, part in parts:
        width = 100 * min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0
        rects.append(Tag("rect")(x=f"{at:.2f}%", width=f"{width:.2f}%", height="100%", class_=f"of-{kind}"))
        at += width
    return Tag("svg")(rects, class_=look)(**{"aria-hidden": "true", "focusable": "false"})


@attrs.frozen
class Column:
    """A column's heading; numbers are set flush right. `hint` is said when the pointer rests on it.

    `beside` are the classes of further columns that say the same in another way: a bar, a share.
    """

    heading: str
    number: bool = False
    hint: str | None = None
    beside: tuple[str, ...] = ()


def table(caption: str, columns: Sequence[Column], rows: list[Tag], kind: str = "") -> Tag:
    """A table that scrolls sideways by itself where the window is narrow."""
    heads = []
    for column in columns:
        head = tags.th(column.heading, scope="col")
        if column.number:
            head(class_="num")
        if column.hint:
            head(title=column.hint)
        heads.append(head)
        heads += [tags.td(class_=kind) for kind in column.beside]
    whole = tags.table(
        tags.caption(caption, class_="hidden"), tags.thead(tags.tr(heads)), tags.tbody(*rows), class_=kind
    )
    return tags.div(whole, class_="scroll", tabindex="0", role="region")(**{"aria-label": caption})


def folded(text: str) -> Tag:
    """Code, of which a long one is shown by its beginning until it is opened."""
    if len(text) <= limits.CODE_CHARACTERS:
        return tags.code(_breakable(text))
    return tags.details(
        tags.summary(tags.code(text[: limits.CODE_BEGINNING], " …")), tags.code(_breakable(text)), class_="code"
    )


def _breakable(text: str) -> list[Flattenable]:
    """A list without spaces, as SQL has them, may begin a new line after each comma."""
    first, *rest = re.split(r"(?<=,)(?=\S)", text)
    return [first, *((tags.wbr(), part) for part in rest)]


def number(text: str, **attributes: Flattenable) -> Tag:
    """A cell with a number; nothing and zero step back."""
    faint = text in (words.NOTHING, "0")
    return tags.td(text, class_="num faint" if faint else "num", **attributes)


def status(code: int | None, died: bool, fatal: bool = False) -> Tag:
    """How a request ended."""
    if died:
        return tags.span("died", class_="pill bad", title="The process ended before the request did")
    if code is None:
        return tags.span(words.NOTHING, class_="faint")
    kind = "bad" if code >= 500 or fatal else "warn" if code >= 400 else "ok"
    return tags.span(str(code), class_=f"pill {kind}", title="Ended by a fatal error" if fatal else "HTTP status")


def details(summary: Flattenable, body: Flattenable, open_: bool = False) -> Tag:
    """Something to fold away."""
    tag = tags.details(tags.summary(summary), body, class_="fold")
    return tag(open="open") if open_ else tag
