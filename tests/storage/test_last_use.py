"""The last use of keys and upstreams: no text of a failure keeps it from being stored."""

from floway_core.storage import upstreams
from floway_core.storage.usage import UsageBuffer


def test_a_failure_that_no_text_column_can_hold_is_stored(database):
    upstream, pending = upstreams.add(database, "wire", "odd"), UsageBuffer()
    pending.last_use.note_try(upstream.id, "No\0 \ud83d.")
    assert pending.flush(database)
    assert upstreams.last_tries(database)[upstream.id].failure == "No ?."
