"""Idle WebSocket connections, and connections with TLS."""

import datetime
import ipaddress
import socket
import ssl
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from floway_codex.simulator import Simulator, reply, text
from floway_codex.websocket import pool
from floway_codex.websocket.connection import WebSocketConnection
from floway_codex.websocket.increments import Progress
from floway_codex.wire.input_state import InputState

from floway_core.errors import GatewayError

from .. import gateways
from .asking import STARTED, USER, kinds, outputs

PROGRESS = Progress({}, (b"0123456789",), InputState(), "resp_1", [])


# ---------------------------------------------------------------------------------------------------------------- idle
def test_a_ping_is_answered_while_the_connection_is_idle(ask, simulator):
    ask()
    simulator.websockets.sessions[0].ping()
    gateways.wait_for(lambda: simulator.websockets.pongs == 1)
    assert ask()[0] == 200 and len(simulator.upgrades) == 1


@pytest.mark.parametrize("code", [1001, None])
def test_a_connection_that_the_backend_closes_while_idle_is_replaced_without_a_wait(ask, simulator, waits, code):
    history = [USER, *outputs(ask()[1]), USER]
    simulator.websockets.sessions[0].close(code)
    gateways.wait_for(lambda: not simulator.websockets.sessions)
    assert ask(history)[0] == 200
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"] and waits == []
    assert [len(frame.body["input"]) for frame in simulator.frames][-1] == 3


class Opened:
    """Connections of a pool, without a backend."""

    def __init__(self):
        self.ours, self.theirs = socket.socketpair()
        self.is_closed = False

    def fileno(self):
        return self.ours.fileno()

    def read(self, timeout):
        return None

    def close(self):
        self.is_closed = True
        self.ours.close()


def key(number):
    return pool.ConversationKey("up", "acct", "key", "session", str(number), "agent")


def test_the_connection_that_has_been_idle_longest_makes_room():
    kept = pool.ConnectionPool(max_idle=3)
    opened = [Opened() for _ in range(5)]
    for number, connection in enumerate(opened):
        kept.put(key(number), connection, PROGRESS)
    assert [one.is_closed for one in opened] == [True, True, False, False, False]
    assert kept.take(key(0)) is None and kept.take(key(4)).connection is opened[4]
    assert kept.take(key(4)) is None


def test_what_idle_connections_have_sent_is_bounded():
    kept, opened = pool.ConnectionPool(max_bytes=25), [Opened() for _ in range(4)]
    for number, connection in enumerate(opened[:3]):
        kept.put(key(number), connection, PROGRESS)
    assert [one.is_closed for one in opened] == [True, False, False, False]
    kept.put(key(3), opened[3], replace(PROGRESS, texts=(b"x" * 26,)))
    assert all(one.is_closed for one in opened) and kept.take(key(2)) is None


def test_a_conversation_keeps_its_latest_connection():
    kept, first, second = pool.ConnectionPool(), Opened(), Opened()
    kept.put(key(1), first, PROGRESS)
    kept.put(key(1), second, PROGRESS)
    assert first.is_closed and kept.take(key(1)).connection is second


def test_idle_connections_are_closed_after_a_while(monkeypatch):
    monkeypatch.setattr(pool, "CHECK_SECONDS", 0.01)
    kept, opened = pool.ConnectionPool(idle_seconds=0.0), Opened()
    kept.put(key(1), opened, PROGRESS)
    gateways.wait_for(lambda: opened.is_closed)
    assert kept.take(key(1)) is None


def test_a_backend_that_talks_without_end_is_left():
    kept, opened = pool.ConnectionPool(), Opened()
    opened.read = lambda timeout: [b"x"]
    kept.put(key(1), opened, PROGRESS)
    assert kept.take(key(1)) is None and opened.is_closed


# ----------------------------------------------------------------------------------------------------------------- TLS
@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A file with the certificate of 127.0.0.1, which signs itself, and its key."""
    private, today = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "backend")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(private, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "backend.pem"
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private.private_bytes(*plain))
    return file


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("is_trusted", [True, False])
def test_tls_with_the_trust_of_all_other_requests(certificate, version, is_trusted):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(certificate)
    trust = {"REQUESTS_CA_BUNDLE": str(certificate)} if is_trusted else {}
    with Simulator(tls=context) as backend:
        settings = gateways.settings(backend, codex_transport="auto")
        with gateways.RunningGateway(settings, installed=["codex"], environ=trust) as gateway:
            gateways.import_account(gateway, backend.new_account())
            gateways.keep_models(gateway)
            said = "0123456789" * 20_000
            backend.script(reply(text(said, chunks=40)))
            status, answer = gateways.answer_of(gateways.ask(gateway))
            if is_trusted:
                assert (status, answer) == (200, said) and len(backend.frames) == 2
            else:
                assert status == 502 and backend.requests == []


def test_a_header_that_is_no_header_is_refused():
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(GatewayError, match="cannot be sent"):
        WebSocketConnection(ours, "http://127.0.0.1/x", {"authorization": "Bearer a\r\nx-injected: 1"}, "a")
