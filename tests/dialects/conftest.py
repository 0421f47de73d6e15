"""A gateway with the made-up dialect ``letters``."""

from pathlib import Path

import pytest

from floway_core.testing import ApiClient, FakeUpstream, RunningGateway, write_plugin
from floway_core.testing.dialect_kit import KIT_PROVIDER

PENPAL = KIT_PROVIDER.replace('kind = "kit"', 'kind = "penpal"\n    dialect = "letters"')
PENPAL = PENPAL.replace("kit-", "penpal-").replace("kit_url", "penpal_url")
"""A provider whose upstreams speak the dialect."""

LETTERS = (Path(__file__).parent / "letters.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def upstream_of_all():
    with FakeUpstream() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, upstream_of_all):
    folder = tmp_path_factory.mktemp("letters")
    write_plugin(folder, "kit", KIT_PROVIDER)
    write_plugin(folder, "penpal", PENPAL)
    write_plugin(folder, "letters", LETTERS)
    settings = {"kit_url": upstream_of_all.url, "penpal_url": upstream_of_all.url}
    with RunningGateway(settings, plugin_folders=[folder]) as running:
        for kind in ("kit", "penpal"):
            assert running.run("upstreams", "add", kind, kind).returncode == 0
        yield running


@pytest.fixture
def upstream(upstream_of_all):
    upstream_of_all.forget()
    return upstream_of_all


@pytest.fixture
def caller(gateway):
    return ApiClient(gateway.url, gateway.key)
