"""Numbers for Prometheus, as `/metrics` of either daemon tells them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@attrs.frozen
class Measure:
    """One number for Prometheus. `counter`: it only grows; its name gets the `_total` it should have."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = attrs.field(factory=dict)
    counter: bool = False


METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def metrics(measures: Iterable[Measure]) -> bytes:
    """The body of `/metrics`: numbers of one name that differ in their labels are one family."""
    registry = CollectorRegistry()
    registry.register(_Measures(list(measures)))
    text: bytes = generate_latest(registry)
    return text


@attrs.define(eq=False)
class _Measures(Collector):
    measures: list[Measure]

    def collect(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for m in self.measures:
            family_type = CounterMetricFamily if m.counter else GaugeMetricFamily
            family = families.setdefault(m.name, family_type(m.name, m.help, labels=list(m.labels)))
            family.add_metric(list(m.labels.values()), m.value)
        return families.values()
