"""What Floway uses of libraries beyond their public API: it must not change unnoticed, and stands in one file each.

Where a test fails after an upgrade, read the changes of the library, adapt the file that ``INSIDES`` names, and correct
the signature here and the versions in that file.
"""

import configparser
import hashlib
import importlib
import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest
from gunicorn.http.message import RFC9110_5_3_SINGLETON_FIELDS, Request
from packaging.requirements import Requirement

from floway_core.server.gunicorn_hooks import POLICED_NAMES

ROOT = Path(__file__).parent.parent

INSIDES = {
    "urllib3": (
        "floway_core/upstream/urllib3_pool.py",
        {
            "urllib3:HTTPConnectionPool._new_conn": "(self) -> 'BaseHTTPConnection'",
            "urllib3:HTTPConnectionPool._validate_conn": "(self, conn: 'BaseHTTPConnection') -> 'None'",
            "urllib3:HTTPConnectionPool._prepare_proxy": "(self, conn: 'BaseHTTPConnection') -> 'None'",
            "urllib3:HTTPSConnectionPool._new_conn": "(self) -> 'BaseHTTPSConnection'",
            "urllib3:HTTPSConnectionPool._validate_conn": "(self, conn: 'BaseHTTPConnection') -> 'None'",
            "urllib3:HTTPSConnectionPool._prepare_proxy": "(self, conn: 'HTTPSConnection') -> 'None'",
        },
    ),
    "gunicorn": (
        "floway_core/server/gunicorn_hooks.py",
        {
            "gunicorn.http.message:Request._peer_is_trusted_proxy": "(self)",
            "gunicorn.http.message:Request._apply_header_policy": (
                "(self, name, value, scheme_state, seen, secure_scheme_headers, forwarder_headers, from_trailer=False)"
            ),
            "gunicorn.http.message:Request._parse_fast": "(self, unreader, buf)",
            "gunicorn.http.wsgi:Response._emit_body": "(self, data)",
        },
    ),
    "prometheus-client": (
        "floway_core/web/metrics_file.py",
        {
            "prometheus_client.mmap_dict:MmapedDict._init_value": "(self, key)",
        },
    ),
}
"""For each library the only file that uses its private names, and the signatures of these."""

UNDOCUMENTED = {
    "gunicorn.arbiter:Arbiter.kill_workers": "(self, sig)",
    "gunicorn.arbiter:Arbiter.reap_workers": "(self)",
    "gunicorn.arbiter:Arbiter.reload": "(self)",
    "gunicorn.arbiter:Arbiter.signal": "(self, sig, frame)",
    "gunicorn.http.body:ChunkedReader": "(req, unreader)",
    "gunicorn.http.body:ChunkedReader.get_data": "(self, unreader, buf)",
    "gunicorn.http.body:ChunkedReader.parse_chunk_size": "(self, unreader, data=None)",
    "gunicorn.http.message:Request": "(cfg, unreader, peer_addr, req_number=1)",
    "gunicorn.http.message:Request.force_close": "(self)",
    "gunicorn.http.message:Request.set_body_reader": "(self)",
    "gunicorn.http.parser:RequestParser": "(cfg, source, source_addr)",
    "gunicorn.http.parser:RequestParser.__next__": "(self)",
    "gunicorn.http.parser:RequestParser.finish_body": "(self, deadline=None, max_bytes=None)",
    "gunicorn.http.unreader:SocketUnreader": "(sock, max_chunk=8192)",
    "gunicorn.http.unreader:SocketUnreader.chunk": "(self) or (self, size_hint=None)",
    "gunicorn.http.unreader:Unreader.take_buffered": "(self)",
    "gunicorn.http.unreader:Unreader.unread": "(self, data)",
    "gunicorn.http.wsgi:Response.close": "(self)",
    "gunicorn.http.wsgi:Response.process_headers": "(self, headers)",
    "gunicorn.http.wsgi:Response.send_headers": "(self)",
    "gunicorn.http.wsgi:base_environ": "(cfg)",
    "gunicorn.http.wsgi:create": "(req, sock, client, server, cfg, response_class=None, response_args=())",
    "gunicorn.util:unquote_to_wsgi_str": "(string)",
    "gunicorn.workers.base:Worker.notify": "(self)",
    "gunicorn.workers.gthread:PollableMethodQueue.defer": "(self, callback, *args)",
    "gunicorn.workers.gthread:PollableMethodQueue.init": "(self)",
    "gunicorn.workers.gthread:PollableMethodQueue.run_callbacks": "(self, _fileobj, max_callbacks=50)",
    "gunicorn.workers.gthread:TConn": "(cfg, sock, client, server)",
    "gunicorn.workers.gthread:TConn.close": "(self, graceful=False)",
    "gunicorn.workers.gthread:ThreadWorker.accept": "(self, listener)",
    "gunicorn.workers.gthread:ThreadWorker.enqueue_req": "(self, conn)",
    "gunicorn.workers.gthread:ThreadWorker.handle": "(self, conn)",
    "gunicorn.workers.gthread:ThreadWorker.handle_exit": "(self, sig, frame)",
    "gunicorn.workers.gthread:ThreadWorker.handle_quit": "(self, sig, frame)",
    "gunicorn.workers.gthread:ThreadWorker.load_wsgi": "(self)",
    "gunicorn.workers.gthread:ThreadWorker.murder_pending": "(self)",
    "gunicorn.workers.gthread:ThreadWorker.is_parent_alive": "(self)",
    "gunicorn.workers.gthread:ThreadWorker.run": "(self)",
    "gunicorn.workers.gthread:ThreadWorker.set_accept_enabled": "(self, enabled)",
    "gunicorn.workers.gthread:ThreadWorker.wait_for_and_dispatch_events": "(self, timeout)",
    "websockets.streams:StreamReader": "() -> 'None'",
}
"""Names without an underscore that no documentation promises: what the server overrides or calls of libraries."""

NEWEST_MAJOR = {"gunicorn": 27, "websockets": 17}
"""Major versions that are supported beside the installed one: `make test-versions` runs with them."""

HEADER_POLICY = "ac812cc2fe6b529cf53a97bff3dd6290d9c89c3387d43dd7162edb176042f1ec"
"""SHA-256 of the source of gunicorn's policy."""

PRIVATE = {name: signature for _, signatures in INSIDES.values() for name, signature in signatures.items()}


@pytest.mark.parametrize(("name", "signature"), [*PRIVATE.items(), *UNDOCUMENTED.items()])
def test_a_library_still_has_what_is_used_of_its_insides(name, signature):
    module, path = name.split(":")
    target = importlib.import_module(module)
    for attribute in path.split("."):
        assert hasattr(target, attribute), f"{name} has disappeared"
        target = getattr(target, attribute)
    assert str(inspect.signature(target)) in signature.split(" or ")


def test_the_policy_of_headers_is_the_one_that_is_known():
    """``POLICED_NAMES`` states which headers it looks at. If it has changed, read it, and correct them and the hash."""
    source = inspect.getsource(Request._apply_header_policy)
    assert hashlib.sha256(source.encode()).hexdigest() == HEADER_POLICY
    assert RFC9110_5_3_SINGLETON_FIELDS | {"EXPECT"} == POLICED_NAMES


@pytest.mark.parametrize("library", INSIDES)
def test_the_private_names_of_a_library_stand_in_one_file(library):
    only_file, signatures = INSIDES[library]
    names = {name.rpartition(".")[2] for name in signatures}
    pattern = re.compile(rf"\b({'|'.join(names)})\b")
    files = [*(ROOT / "floway_core").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    users = [str(file.relative_to(ROOT)) for file in files if pattern.search(file.read_text())]
    assert users == [only_file]
    assert set(pattern.findall((ROOT / only_file).read_text())) == names


@pytest.mark.parametrize("library", INSIDES)
def test_the_file_names_the_installed_version(library):
    only_file, _ = INSIDES[library]
    assert importlib.metadata.version(library) in (ROOT / only_file).read_text().split('"""')[1]


@pytest.mark.parametrize("library", ["gunicorn", "urllib3", "peewee", "websockets"])
def test_the_next_major_version_is_excluded(library):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    (requirement,) = (requirement for requirement in requirements if requirement.name == library)
    installed = importlib.metadata.version(library)
    next_major = f"{max(NEWEST_MAJOR.get(library, 0), int(installed.split('.')[0])) + 1}.0"
    assert requirement.specifier.contains(installed) and not requirement.specifier.contains(next_major)
