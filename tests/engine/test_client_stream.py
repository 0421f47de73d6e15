"""What happens at the end of a stream."""

from types import SimpleNamespace

import pytest

from floway_core.engine.client_stream import ClientStream


class Stream(ClientStream):
    def __init__(self, called, raising):
        super().__init__(SimpleNamespace())
        self.called, self.raising = called, raising

    def fileno(self):
        return None

    def _step(self, wait):
        return b""

    def _release(self):
        self.call("upstream")

    def call(self, name):
        self.called.append(name)
        if name in self.raising:
            raise ValueError(name)


@pytest.mark.parametrize("raising", [(), ("upstream",), ("first",), ("second",), ("upstream", "first", "second")])
def test_everything_is_called_at_the_end_whatever_raises(raising):
    called = []
    stream = Stream(called, raising)
    for name in ("first", "second"):
        stream.subscribe(closed=lambda name=name: stream.call(name))
    if raising:
        with pytest.raises(ValueError):
            stream.close()
    else:
        stream.close()
    assert called == ["upstream", "first", "second"]
    stream.close()
    assert len(called) == 3, "a second call does nothing"
