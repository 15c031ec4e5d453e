"""From a story to a cause: what happened (the mechanism), and which of its values is to be named for it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import attrs

from bitville_apm import limits
from bitville_apm.analysis import mechanism, rules
from bitville_apm.analysis.mechanism import Asking, Evidence
from bitville_apm.analysis.report import Cause, Factor, Mechanism, Step
from bitville_apm.analysis.score import Scored
from bitville_apm.analysis.stories import Story

_HALF = 0.5
_QUARTER = 0.25


def cause(story: Story, evidence: Evidence, php: Sequence[Evidence], waiting: bool, release: str | None) -> Cause:
    """The cause that a story tells of. `release`: the one that is new, if any."""
    asked = mechanism.asking([evidence, *php], story.head.value) if story.head.dimension == "statement" else None
    label, head, factors = named(story, evidence, php, waiting, asked)
    best_rise = max(m.rise for m in story.members)
    chain = [m for m in story.chain() if m.dimension != "release" and _told(m, head, best_rise)]
    if all(m.dimension != head.dimension for m in chain):
        chain.insert(0, head)
    steps = [Step(dimension=m.dimension, value=m.value) for m in chain]
    if head.dimension in ("statement", "function") and label != "stampede" and not story.has("endpoint"):
        place = _asked_by(head, [evidence, *php])
        if place.dimension == "endpoint":
            steps.insert(0, Step(dimension="endpoint", value=place.value))
    if asked is not None and asked.endpoint is not None and steps[0].dimension != "endpoint":
        steps.insert(0, Step(dimension="endpoint", value=asked.endpoint))
    if release is not None and label == "regression" and head.dimension in ("function", "endpoint", "statement"):
        label = "deploy"
        steps.insert(0, Step(dimension="release", value=release))
    best = max(story.members, key=lambda m: m.score)
    return Cause(
        dimension=head.dimension,
        value=head.value,
        score=best.score,
        share=max(m.share for m in story.members),
        lift=head.lift,
        confidence=best.confidence,
        level=head.level,
        baseline=head.baseline,
        mechanism=label,
        factors=factors,
        story=steps,
    )


def named(
    story: Story, evidence: Evidence, php: Sequence[Evidence], waiting: bool, asked: Asking | None
) -> tuple[Mechanism, Scored, dict[str, Factor]]:
    """The mechanism, the value to name, and the factors of its level. `asked`: who runs the statement at its head."""
    head = story.head
    best = max(m.rise for m in story.members)
    blocker, request, external = story.has("blocker"), story.has("request"), story.has("external")
    client, process, release = story.has("client"), story.has("process"), story.has("release")
    endpoint = _large(story.has("endpoint"), best)
    used = [m for m in (story.has("statement"), story.has("function")) if m is not None and m.rise >= _HALF * best]
    if blocker is not None and blocker.rise >= _HALF * best:
        return "lock", blocker, {}
    if process is not None and process is head:
        return ("unclear" if rules.serves(process.value) else "not php"), process, {}
    if head.dimension == "host":
        return "not php", head, {}
    everywhere = [evidence, *php]
    of_endpoint = mechanism.of_endpoint(evidence, endpoint) if endpoint is not None else {}
    if request is not None and request.rise >= _HALF * best:
        return "killer request", request, {}
    if endpoint is None and client is not None and client.rise >= _HALF * best:
        return "crawler", client, mechanism.of_endpoint(evidence, client)
    if mechanism.dominant(of_endpoint) == "n" and endpoint is not None:
        return "traffic", endpoint, of_endpoint
    if asked is not None and asked.request is not None:
        return "killer request", attrs.evolve(head, dimension="request", value=asked.request), {}
    if asked is not None and asked.endpoint is not None:
        factors = mechanism.as_called(everywhere, head, asked.endpoint)
        way = mechanism.dominant(factors)
        if way == "q" and factors["q"].after >= limits.REPEATED:
            return "n+1", head, factors
        if way == "c":
            return "regression", head, factors
        if way == "n":
            return "traffic", attrs.evolve(head, dimension="endpoint", value=asked.endpoint), factors
    if head.dimension == "statement" and mechanism.beyond_php(everywhere, head.value):
        return "not php", head, {}
    for value in used:
        factors = mechanism.of_use(evidence, value, php)
        way = mechanism.dominant(factors)
        if way == "q":
            before, now = mechanism.repeats(everywhere, value.dimension, value.value)
            alone = mechanism.mostly_of(everywhere, value.dimension, value.value)[1] >= limits.STORY_LINK
            if endpoint is None and not alone and not (before and now > 2 * before):
                return "stampede", value, factors
            if value.dimension == "function" and now <= 1:
                return "regression", value, factors  # nobody counts calls: more requests have come to run it
            return "n+1", (endpoint or value), factors
        if way == "c" and waiting and value.dimension == "function" and external is None:
            return "external", value, factors
        if way == "c" and not (waiting and external is not None):
            return "regression", value, factors
        if way == "n" and endpoint is None:
            return "traffic", _asked_by(value, everywhere), factors
    if external is not None:
        return "external", external, mechanism.of_use(evidence, external)
    if endpoint is not None:
        return "regression", endpoint, of_endpoint
    if release is not None and release is head:
        return "deploy", release, mechanism.of_endpoint(evidence, release)
    if head.dimension == "agent":
        factors = mechanism.of_endpoint(evidence, head)
        return ("crawler" if mechanism.dominant(factors) == "n" else "unclear"), head, factors
    return "unclear", head, mechanism.of_use(evidence, head, php)


def _asked_by(value: Scored, evidence: Sequence[Evidence]) -> Scored:
    """The endpoint that ran a statement or function more often, if it was one; else the value itself."""
    endpoint, part = mechanism.mostly_of(evidence, value.dimension, value.value)
    if endpoint is None or part < limits.STORY_LINK:
        return value
    return attrs.evolve(value, dimension="endpoint", value=endpoint)


def _told(value: Scored, head: Scored, best: float) -> bool:
    """Whether a value belongs into the sentence: who asked, if it was mostly him; what ran, if it was much of it."""
    if value.dimension == head.dimension:
        return value.value == head.value
    return value.rise >= (_HALF if value.dimension in ("client", "agent") else _QUARTER) * best


def _large(value: Scored | None, best: float) -> Scored | None:
    """A value unless it is a small part of its story: one of many endpoints that a crawler reads."""
    return value if value is not None and value.rise >= _HALF * best else None


def signature(causes: Sequence[Cause]) -> str:
    """The same for spikes of the same first cause, on whatever host: 16 hex, empty without a cause.

    Of what is never twice the same, the id of a request or of a session, the place that it was in counts.
    """
    if not causes:
        return ""
    first = causes[0]
    dimension, value = first.dimension, first.value
    if dimension == "request":
        place = next((s for s in first.story if s.dimension == "endpoint"), None)
        dimension, value = ("endpoint", place.value) if place else ("request", "")
    if dimension == "blocker":
        value = value.partition(": ")[2] or value
    return hashlib.sha256(f"{first.mechanism}\0{dimension}\0{value}".encode()).hexdigest()[:16]
