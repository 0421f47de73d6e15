"""What the tests of several plugins share: gateways in front of the simulated Codex backend, and a picture."""

import json
import zlib

import pytest
from floway_codex.simulator import Simulator

from floway_core.testing import RunningGateway, processes

# What they import late, and would otherwise import again in every gateway and command. Not all of OpenTelemetry: its
# propagators read the environment when they are imported.
processes.PRELOADED += [
    f"floway_codex.commands.{name}"
    for name in ("accounts", "differences", "explain", "profile", "simulation", "warmth")
]
processes.PRELOADED += ["floway_dashboard.blueprint", "floway_dashboard.commands"]
processes.PRELOADED += [f"opentelemetry.exporter.otlp.proto.http.{kind}_exporter" for kind in ("trace", "metric")]


@pytest.fixture(scope="session")
def simulator():
    """The simulated Codex backend."""
    with Simulator() as running:
        yield running


@pytest.fixture
def backend(simulator):
    """The simulated backend, which has forgotten what was before. Nothing in the session may look wrong to it."""
    simulator.clear()
    yield simulator
    assert simulator.findings == [], "over all its requests the session looks wrong"


@pytest.fixture(scope="session")
def start_with_codex(simulator):
    """Starts gateways with further plugins, whose only upstream is the simulated backend."""

    def start(*plugins, **settings):
        urls = {"codex_base_url": simulator.base_url, "codex_auth_url": simulator.auth_url}
        settings = {**urls, "codex_transport": "http", **settings}  # the tests look at whole requests
        gateway = RunningGateway(settings, installed=["codex", *plugins])
        file = gateway.folder / "auth.json"
        file.write_text(json.dumps(simulator.new_account()))
        done = gateway.run("codex", "import", str(file))
        assert done.returncode == 0, done.stderr
        return gateway

    return start


@pytest.fixture(scope="session")
def draw_png():
    """Return a function that draws a red square as PNG; its argument is the length of a side in pixels."""

    def chunk(kind, data):
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    def draw(size=8):
        header = size.to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0])
        rows = zlib.compress((b"\0" + b"\xff\0\0" * size) * size)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")

    return draw


@pytest.fixture(scope="session")
def red_png(draw_png):
    """A picture of a few red pixels."""
    return draw_png()
