"""The tests that every dialect has to pass: subclass ``DialectContract``, say how its clients ask, and run pytest.

::

    from floway_core.testing.dialect_contract import DialectContract

    class TestContract(DialectContract):
        plugin = "letters"
        key_headers = ("x-stamp",)
        unknown_path = "/v1/letters/nothing"

        def request(self, model, text, stream): ...

The plugin has to be installed, for example with ``pip install -e .``. Class attributes state what a dialect does not
have; pytest reports the tests concerned as skipped.
"""

import json
from collections.abc import Iterator, Mapping

import pytest

from floway_core.testing import events
from floway_core.testing.client import ApiClient
from floway_core.testing.dialect_answer_contract import DialectAnswerContract
from floway_core.testing.dialect_contract_base import MAX_BODY_BYTES, MODEL
from floway_core.testing.dialect_error_contract import DialectErrorContract
from floway_core.testing.dialect_kit import MODELS, with_query
from floway_core.testing.gateway import RunningGateway
from floway_core.testing.upstream import FakeUpstream, Reply


class DialectContract(DialectAnswerContract, DialectErrorContract):
    """Override the attributes and methods of ``DialectContractBase``, above its line."""

    # ---------------------------------------------------------------------------------------------------------- keys
    def _key_places(self, key: str) -> Iterator[tuple[Mapping[str, str | None], str]]:
        """Yield headers and query with the key, for each place where clients may send it."""
        yield {"authorization": f"Bearer {key}"}, ""
        for name in self.key_headers:
            yield {"authorization": None, name: key}, ""
        for name in self.key_parameters:
            yield {"authorization": None}, f"{name}={key}"

    def test_the_key_is_read_in_every_place_and_written_down_nowhere(
        self, upstream: FakeUpstream, gateway: RunningGateway, caller: ApiClient
    ) -> None:
        """A wrong one is refused; a right one reaches neither the upstream, nor a plugin, nor the log."""
        path, body = self.request(MODEL, "Hi", False)
        content = json.dumps(body).encode()
        wrong = "sk-floway-wrong-0123456789"
        for headers, query in self._key_places(wrong):
            refused = caller.send("POST", with_query(path, query), content, headers)
            self._refused(refused, 401)
        for headers, query in self._key_places(gateway.key):
            upstream.script(Reply(events.message_stream("Good day.")))
            answer = caller.send("POST", with_query(path, query), content, headers)
            assert answer.status == 200, answer.body
            assert gateway.key not in str(upstream.requests[-1])
        self._refused(caller.send("POST", path, content, {"authorization": None}), 401)
        assert gateway.key not in gateway.log and wrong not in gateway.log
        for file in gateway.data_dir.rglob("*"):
            assert not file.is_file() or gateway.key.encode() not in file.read_bytes()

    def test_a_body_without_a_key_is_not_read(self, gateway: RunningGateway) -> None:
        """The answer comes although the body never does."""
        path, _ = self.request(MODEL, "Hi", False)
        head = f"POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {MAX_BODY_BYTES}\r\n\r\n"
        assert self._raw_error(gateway, head.encode(), 401)

    # ---------------------------------------------------------------------------------------------- models and counts
    def test_lists_the_models(self, caller: ApiClient) -> None:
        """All of them, under the names that clients use; a wrong key is told in the form of the dialect."""
        if self.models_path is None:
            pytest.skip("models_path is None: the dialect lists no models")
        listed = caller.send("GET", self.models_path, headers=self.model_headers)
        assert listed.status == 200 and self.model_names(listed.json()) == list(MODELS)
        wrong = {**self.model_headers, "authorization": "Bearer wrong"}
        self._refused(caller.send("GET", self.models_path, headers=wrong), 401)

    def test_counts_tokens(self, upstream: FakeUpstream, caller: ApiClient) -> None:
        """The upstream's count, or an estimate that grows with the request; nothing is generated."""
        if self.count_path is None:
            pytest.skip("count_path is None: the dialect counts no tokens")
        counts = {}
        for text in ("Hi", "Hi " * 1000, "COUNT"):
            path, body = self.count_request(MODEL, text)
            answer = caller.post(body, path)
            assert answer.status == 200, answer.body
            counts[answer.headers["x-floway-token-count"]] = self.token_count(answer.json())
            if text == "Hi":
                small = self.token_count(answer.json())
        assert 0 < small < counts["estimate"] and counts["upstream"] == 42
        path, body = self.count_request("no-such-model", "Hi")
        self._refused(caller.post(body, path), 404)
        assert upstream.requests == []
