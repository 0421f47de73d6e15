"""Sockets that a provider opens itself use the proxies and certificates of all other requests."""

import socket

import pytest

from floway_core.errors import UpstreamUnreachable

from ..support.certificates import server_context
from ..support.raw_upstream import RawUpstream, new_client


def echo(talk):
    talk.send(talk.socket.recv(100))
    talk.hold()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def exchange(opened: socket.socket) -> bytes:
    with opened:
        opened.sendall(b"hello")
        return opened.recv(100)


def test_plain(tmp_path):
    with RawUpstream(echo) as upstream:
        assert exchange(new_client(tmp_path).open_socket(f"{upstream.url}/path")) == b"hello"


@pytest.mark.parametrize("is_trusted", [True, False])
def test_tls(tmp_path, monkeypatch, certificates, is_trusted):
    if is_trusted:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates[0]))
    with RawUpstream(echo, tls=server_context("TLSv1_3", certificates[1])) as upstream:
        client = new_client(tmp_path)
        if is_trusted:
            assert exchange(client.open_socket(upstream.url)) == b"hello"
        else:
            with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
                client.open_socket(upstream.url)


def test_each_is_a_new_connection(tmp_path):
    with RawUpstream(echo) as upstream:
        client = new_client(tmp_path)
        first, second = client.open_socket(upstream.url), client.open_socket(upstream.url)
        assert first is not second and exchange(first) == exchange(second) == b"hello"


def test_nobody_listens(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(UpstreamUnreachable):
        new_client(tmp_path).open_socket(url)


def test_a_proxy_without_a_tunnel_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert new_client(tmp_path).open_socket("http://upstream.example") is None


def test_a_tunnel_through_a_proxy(tmp_path, monkeypatch, certificates):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates[0]))
    heads = []

    def tunnel(talk):
        head = b""
        while b"\r\n\r\n" not in head:
            head += talk.socket.recv(1000)
        heads.append(head.partition(b"\r\n")[0])
        talk.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        secured = server_context("TLSv1_3", certificates[1]).wrap_socket(talk.socket, server_side=True)
        secured.sendall(secured.recv(100))
        secured.recv(100)

    with RawUpstream(tunnel) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        assert exchange(new_client(tmp_path).open_socket("https://127.0.0.1:4443/x")) == b"hello"
    assert heads[0].startswith(b"CONNECT 127.0.0.1:4443 HTTP/1.")
