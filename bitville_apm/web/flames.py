"""The flame graph of one request, of its samples (VIZ-01): our own SVG, without a script. Pure; slow on large ones.

Each frame is as wide as the time in which it was on the stack, the outermost at the top; beside each other they stand
by name, so that what is the same is one. A click makes a frame the whole width: that is an address too.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence

import attrs
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm import limits
from bitville_apm.web import words
from bitville_apm.web.detail import Detail
from bitville_apm.web.exports import samples_of
from bitville_apm.web.scope import request_url, url

_ROW_PX = 18
_COLOURS = 5


@attrs.define
class Frame:
    """A function on a stack: its samples, and what it called."""

    name: str
    samples: int = 0
    called: dict[str, Frame] = attrs.field(factory=dict)

    def children(self) -> list[Frame]:
        """What it called, by name."""
        return [self.called[name] for name in sorted(self.called)]


@attrs.frozen
class Box:
    """A frame's place: shares of the width, its row, and the numbers by which it is found again."""

    frame: Frame
    left: float
    width: float
    row: int
    path: tuple[int, ...]


def flame_of(detail: Detail, path: Sequence[int]) -> Flattenable:
    """The flame graph of a record, below the frame of a path; nothing where it has no samples."""
    sampled = samples_of(detail)
    if sampled is None:
        return ""
    here = request_url(detail.found.id)
    return flame(tree(sampled.stacks()), path, sampled.period_us, lambda at: url(here, flame=at))


def tree(stacks: Iterable[tuple[Sequence[str], int]]) -> Frame:
    """Stacks put together."""
    root = Frame("all")
    for stack, count in stacks:
        root.samples += count
        at = root
        for name in stack[: limits.FLAME_DEPTH]:
            found = at.called.get(name)
            if found is None:
                found = at.called[name] = Frame(name)
            found.samples += count
            at = found
    return root


def found(root: Frame, path: Sequence[int]) -> tuple[Frame, tuple[int, ...]] | None:
    """The frame that a path leads to, and that path; None where it leads nowhere."""
    at = root
    for number in path:
        children = at.children()
        if not 0 <= number < len(children):
            return None
        at = children[number]
    return at, tuple(path)


def boxes(root: Frame, path: tuple[int, ...]) -> list[Box]:
    """Where each frame below one stands; what is too narrow to be seen is left out, with all that it called."""
    if root.samples <= 0:
        return []
    made: list[Box] = []
    waiting = [Box(root, 0.0, 1.0, 0, path)]
    while waiting and len(made) < limits.FLAME_FRAMES:
        box = waiting.pop(0)
        made.append(box)
        left = box.left
        for number, child in enumerate(box.frame.children()):
            width = child.samples / root.samples
            if width >= limits.FLAME_SHARE:
                waiting.append(Box(child, left, width, box.row + 1, (*box.path, number)))
            left += width
    return made


def flame(root: Frame, path: Sequence[int], period_us: int, address: Callable[[str | None], str]) -> Flattenable:
    """The graph below the frame of a path; `address` gives the page's own with another path."""
    here = found(root, path)
    if here is None:
        here = root, ()
    drawn = boxes(*here)
    if not drawn:
        return ""
    rows = 1 + max(box.row for box in drawn)
    parts = [_drawn(box, here[0], period_us, address) for box in drawn]
    back: Flattenable = ""
    if here[1]:
        back = tags.p(
            "Only what ", tags.code(words.cut(here[0].name, 200)), " called; ", tags.a("show all", href=address(None)),
            class_="note",
        )  # fmt: skip
    graph = Tag("svg")(parts, class_="flame", height=str(rows * _ROW_PX), role="img")
    return [back, graph(**{"aria-label": "Flame graph: the table below has the same functions by their time"})]


def _drawn(box: Box, whole: Frame, period_us: int, address: Callable[[str | None], str]) -> Tag:
    name, ms = words.cut(box.frame.name, 300), box.frame.samples * period_us / 1000
    said = f"{name}: {words.milliseconds(ms)}, {words.share(box.frame.samples, whole.samples)}"
    place = {"x": f"{100 * box.left:.3f}%", "y": str(box.row * _ROW_PX), "width": f"{100 * box.width:.3f}%"}
    inside: list[Flattenable] = [
        Tag("title")(said),
        Tag("rect")(width="100%", height=str(_ROW_PX - 1), class_=f"flame-{_colour(box.frame.name)}"),
    ]
    if box.width >= limits.FLAME_NAMED:
        inside.append(Tag("text")(_short(name), x="4", y="13"))
    link = Tag("a")(inside, href=address(".".join(map(str, box.path)) or None), tabindex="-1")
    return Tag("svg")(link, height=str(_ROW_PX), **place)


def _short(name: str) -> str:
    """A file by its last parts, as there is little room."""
    return "/".join(name.split("/")[-2:]) if name.startswith("/") else name


def _colour(name: str) -> int:
    """The same for all of a class or folder, so that what belongs together looks alike."""
    group = name.rpartition("::")[0] or name.rpartition("\\")[0] or name.rpartition("/")[0]
    return zlib.crc32(group.encode("utf-8", "replace")) % _COLOURS


def path_of(text: str) -> list[int]:
    """The path in an address. Raises `ValueError`."""
    numbers = [int(part) for part in text.split(".")]
    if len(numbers) > limits.FLAME_DEPTH:
        raise ValueError("too deep")
    return numbers
