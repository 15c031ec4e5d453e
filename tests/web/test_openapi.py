"""The API's description, and everything it describes asked of a real collector."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from bitville_apm.store.sqlite import Main
from bitville_apm.web import openapi
from bitville_apm.web.api import Api
from tests.collector.rig import Rig, item, running
from tests.store.make import end_body, new_id, postgres
from tests.web.made import night, regression
from tests.web.sent import record

DOCUMENT = json.loads(openapi.document())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {result.ok().path: result.ok() for result in SCHEMA.get_all_operations()}
# What is right and wrong is test_parameters' and test_real's: OpenAPI cannot say "one of two parameters", nor that one
# time lies after another, and an address that is too long is refused before anybody knows what it asked.
JUDGEMENTS = [positive_data_acceptance, negative_data_rejection]
NOT_DESCRIBED = {"/api/openapi.json"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A collector that has some of everything."""
    with running(tmp_path_factory.mktemp("collector")) as rig:
        key = rig.key("shop")
        mine = new_id()
        observed = json.loads(postgres(time.time() - 60, correlation_id=mine).body)
        items = [item(record(n), n=n) for n in range(3)] + [item(end_body(mine, time.time() - 61), n=3)]
        assert rig.post(key, *items, observed).json["stored"] == 5
        main = Main.open(rig.data)
        main.keep_drifts(night("shop", regression(), regression("SELECT 1", dimension="statement", per="execution")))
        main.close()
        yield rig


def test_every_route_is_described() -> None:
    """QUERY-01: what the API has and what is written of it are the same routes."""
    routes = {"/api" + rule.rule.replace("<", "{").replace(">", "}") for rule in Api.app.url_map.iter_rules()}
    assert routes == set(DOCUMENT["paths"]) | NOT_DESCRIBED


def test_it_is_served(rig: Rig) -> None:
    """QUERY-01: anybody can fetch it from the collector."""
    answer = rig.ask("GET", "/api/openapi.json")
    assert (answer.status, answer.json) == (200, DOCUMENT)


@pytest.mark.parametrize("path", sorted(OPERATIONS))
@pytest.mark.parametrize("examples", [15, pytest.param(100, marks=pytest.mark.full)])
def test_what_is_described_is_so(rig: Rig, path: str, examples: int) -> None:
    """QUERY-02: whatever is asked as described, or nearly so, is answered as described, and never with a 500."""
    key = rig.key("shop", "read")
    modes = schemathesis.GenerationMode
    for mode in (modes.POSITIVE, modes.NEGATIVE):

        @settings(
            max_examples=examples,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate],
        )
        @given(case=OPERATIONS[path].as_strategy(generation_mode=mode))
        def asked(case: schemathesis.Case) -> None:
            response = case.call(base_url=rig.url, headers={"Authorization": f"Bearer {key}"})
            case.validate_response(response, excluded_checks=JUDGEMENTS)

        asked()
