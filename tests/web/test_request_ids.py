"""Ids of requests: UUIDs of version 7, none of which exists twice."""

import os
import threading
import time
import uuid

from floway_core.web.request_ids import IDS_PER_READ, new_request_id


def test_an_id_is_a_uuid_of_version_7_with_the_time():
    before = time.time_ns() // 1_000_000
    text = new_request_id()
    after = time.time_ns() // 1_000_000
    parsed = uuid.UUID(text)
    assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
    assert before <= parsed.int >> 80 <= after


def test_all_random_bits_are_random():
    ids = [uuid.UUID(new_request_id()).int & ((1 << 80) - 1) for _ in range(1000)]
    always = never = ids[0]
    for number in ids:
        always, never = always & number, never | number
    fixed = (0x7 << 76) | (0x2 << 62)
    assert always == fixed and never == (1 << 80) - 1 - (0x8 << 76) - (0x1 << 62)


def test_no_id_exists_twice():
    ids = []
    threads = [
        threading.Thread(target=lambda: ids.extend([new_request_id() for _ in range(20 * IDS_PER_READ)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(ids)) == len(ids) == 4 * 20 * IDS_PER_READ


def test_processes_have_no_ids_in_common():
    new_request_id()  # more are prepared
    reader, writer = os.pipe()
    if not os.fork():
        try:
            os.write(writer, new_request_id().encode())
        finally:
            os._exit(0)
    os.wait()
    theirs = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    random_part = slice(14, None)
    assert len(theirs) == 36 and theirs[random_part] != new_request_id()[random_part]
