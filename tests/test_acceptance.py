"""The table of promises of core: each row has a test through a running server, or says why it does not apply here.

Rows are named by area: ids (ID), routing by what was issued where (AF, RO), what is sent on (RW), the store (SS),
answers (OW, CO), serving (SV, ER, US), HTTP (HT, WS, HD), compaction (CS), tables and their sweeps (RP, PL, MT, UP),
races (X). Plugins have tables of their own.
"""

from pathlib import Path

from floway_core.testing import rows

FOLDER = Path(__file__).parent
EXPECTED = """
ID-1..8 AF-1..16 RO-1..2 RW-1..14 SS-1..9 OW-1..21 CO-1..5 SV-1..26 ER-1..2 US-1..6 HT-1..8 WS-1..9 HD-1..4 CS-1..19
RP-1..7 RP-9..19 PL-1..8 MT-1..2 UP-1..5 X-5..12 X-18 X-20
"""

UNSTORED = "conversation/test_unstored.py::"
STORED = "conversation/test_acceptance.py::"
AFFINITY = "conversation/test_affinity.py::"
COMPACTION = "conversation/test_compaction.py::"
ITEMS = "conversation/test_items.py::"
TURNS = "conversation/test_turns.py::"
COMMIT = "conversation/test_commit_hook.py::"

HELD = {
    "ID-2 AF-1..2": f"{STORED}test_an_odd_reference_is_an_unknown_one",
    "ID-4": f"{ITEMS}test_items_of_an_unknown_kind",
    "ID-6 OW-15 HT-1..2": f"{STORED}test_ids_of_responses_are_unique_and_tell_their_request",
    "AF-5..6 RO-1": f"{AFFINITY}test_the_first_in_order_serves_what_nobody_issued",
    "AF-7..8": f"{AFFINITY}test_the_latest_issuer_is_preferred",
    "AF-9": f"{AFFINITY}test_two_compactions_of_two_upstreams",
    "AF-12 AF-15 RO-2 RW-14 SV-17..18 HT-5": f"{AFFINITY}test_a_compaction_binds",
    "AF-13 RW-10": f"{AFFINITY}test_reasoning_is_known_by_its_blob",
    "AF-14 RW-13": f"{STORED}test_of_equal_blobs_the_latest_issuer_counts",
    "AF-16 RW-11": f"{AFFINITY}test_an_unknown_blob_goes_to_anybody",
    "RW-1": f"{ITEMS}test_an_item_is_sent_as_it_was_given",
    "RW-3 OW-9 CS-1 CS-5..8 CS-10..12 CS-14 CS-16..17 CS-19": f"{COMPACTION}test_by_a_summary",
    "RW-4": f"{AFFINITY}test_others_do_not_get_its_reasoning",
    "RW-5": f"{AFFINITY}test_the_issuer_is_preferred",
    "RW-9 SV-3": f"{ITEMS}test_references",
    "RW-12 SS-9 SV-21 CS-4 RP-1": f"{TURNS}test_a_conversation_by_id",
    "SS-1 RP-10 PL-7": f"{STORED}test_a_damaged_payload_is_an_error_that_names_its_place",
    "SS-3 OW-10": f"{COMMIT}test_forks_inherit_from_their_parent_and_not_from_each_other",
    "SS-4": f"{COMMIT}test_an_ordinal_claimed_early_is_the_one_that_is_stored",
    "SS-5 OW-11 SV-12..13": f"{COMMIT}test_what_it_is_given",
    "SS-6": f"{COMMIT}test_it_is_not_called_for_what_is_not_stored",
    "SS-8 OW-5 OW-16": f"{TURNS}test_store_false_stores_nothing",
    "OW-1": "engine/test_relay.py::test_items_end_as_they_were_streamed",
    "OW-2 OW-18": f"{TURNS}test_an_id_can_be_continued_while_its_stream_is_still_open",
    "OW-3 OW-17 X-6": f"{TURNS}test_a_failed_commit_is_a_failed_turn",
    "OW-4": f"{TURNS}test_a_failed_turn_leaves_nothing",
    "OW-6..7 OW-19 X-7..8": f"{ITEMS}test_order_is_the_output_index",
    "OW-12..13 SV-2 SV-5 SV-26 ID-5 CS-13 CS-15": f"{COMPACTION}test_by_the_upstream",
    "OW-14": f"{STORED}test_a_compaction_that_only_the_terminal_event_holds_starts_the_history_anew",
    "OW-20": "engine/test_relay.py::test_an_answer_in_one_piece_becomes_events",
    "OW-21": "engine/test_relay.py::test_the_answer_ends_although_the_upstream_stays",
    "CO-1..2 CO-4..5": f"{ITEMS}test_what_was_said_when_an_item_closed_is_final",
    "CO-3 SV-1 SV-9": "engine/test_relay.py::test_a_stream_is_relayed_byte_for_byte",
    "SV-4": "engine/test_whole_answers.py::test_an_upstream_may_answer_in_json",
    "SV-8": "engine/test_relay.py::test_which_headers_of_the_upstream_are_relayed",
    "SV-10 HT-3": f"{COMPACTION}test_the_form_of_the_routes_answer",
    "SV-11": "engine/routing/test_routing.py::test_when_one_fails_the_next_is_tried",
    "SV-14": f"{COMMIT}test_a_compaction_has_its_own_mode_and_inherits",
    "SV-15 SV-19": f"{STORED}test_nobody_compacts_with_a_model_that_there_is_not",
    "SV-25": f"{STORED}test_a_history_that_is_sent_again_is_recognised",
    "US-1..6": "web/test_usage.py::test_answers_cost_what_their_tier_does",
    "HT-4 X-9": "conversation/test_refusals.py::test_the_bytes_of_the_refusals",
    "HT-6": "engine/routing/test_aliases.py::test_an_alias_stands_for_a_model",
    "HT-7": "engine/routing/test_aliases.py::test_overrides_hold_for_a_summary_too",
    "HD-1..3": "upstream/test_refusals.py::test_what_the_upstream_receives",
    "HD-4 RP-5": "api/test_hooks.py::test_every_dispatch_starts_from_a_fresh_copy",
    "CS-2..3": f"{COMPACTION}test_a_blob_that_only_looks_like_the_gateways",
    "CS-18": f"{COMPACTION}test_a_failed_compaction_leaves_the_conversation_as_it_was",
    "RP-2..3": f"{STORED}test_reading_rarely_writes",
    "RP-4 X-11": f"{STORED}test_an_old_item_lives_as_long_as_its_conversation",
    "RP-6 RP-11": "web/test_isolation.py::test_foreign_ids_in_the_body",
    "RP-9 MT-2": "conversation/test_retention.py::test_the_command",
    "RP-13": f"{STORED}test_two_hundred_references_are_found_in_their_order",
    "RP-14 PL-3": f"{STORED}test_a_large_item_comes_back_whole",
    "RP-16..18": "conversation/test_rollback.py::test_a_conversation_survives_a_rollback",
    "SV-22 WS-6..7": f"{UNSTORED}test_a_response_that_is_not_stored_can_be_continued_on_its_connection",
    "WS-1": "server/test_websocket.py::test_each_event_is_one_message_as_in_a_stream",
    "WS-2": "server/test_websocket.py::test_pings_are_answered_while_the_upstream_thinks",
    "WS-3..4": (
        "server/test_websocket.py::test_a_message_that_cannot_be_served_gets_an_error_and_the_connection_goes_on"
    ),
    "WS-5": "server/test_websocket.py::test_an_error_of_the_upstream_comes_with_its_status_and_headers",
    "WS-9": "faults/test_websockets.py::test_the_upstream_of_a_client_that_leaves_is_closed",
    "X-5": "conversation/test_servers.py::test_sixty_four_forks_of_one_response",
    "X-10": f"{STORED}test_a_turn_writes_as_much_at_every_length",
    "X-12": "conversation/test_retention.py::test_deleting_a_key_deletes_what_it_stored",
    "X-18": f"{AFFINITY}test_anybody_may_help_when_an_upstream_fails",
    "X-20": f"{TURNS}test_a_client_that_hangs_up_leaves_nothing",
}

NOT_APPLICABLE = {
    "WS-8": "What is stored is in the database alone.",
    "ID-1 ID-3 ID-7": "Items keep the ids that their producer gave them: none has a checksum, none is temporary.",
    "ID-8": "A history that is sent again is recognised by what it says, whatever ids its client dropped.",
    "AF-3..4 AF-11 RW-2 SS-2": "Every stored item has its content: without `store` nothing is stored.",
    "AF-10 RW-7": "What a client sends counts; an id in it does not replace its content.",
    "RW-6": "No item gets another id on its way to another upstream.",
    "RW-8": "References are always replaced by what they mean.",
    "SS-7 OW-8 SV-6 SV-23..24 ER-1..2": "Responses is the only protocol, so nothing is translated.",
    "SV-7": "There is no web search of the gateway's own.",
    "SV-16 SV-20 HT-8": "Every upstream serves Responses.",
    "CS-9": "A summary that is incomplete is none.",
    "RP-7 RP-12": "No row is without its content, so none is filled later.",
    "RP-15 PL-1..2 PL-5..6 PL-8": "All contents are in the database.",
    "RP-19 PL-4": "The schema is Floway's own; there are no rows of an older form.",
    "MT-1": "Requests are not recorded.",
    "UP-1..5": "Plugins keep credentials in tables with a column for each value, not in one text beside the upstream.",
}


def test_each_row_stands_in_the_table_once():
    assert rows.repeated_and_missing(EXPECTED, (HELD, NOT_APPLICABLE)) == ([], [])


def test_the_tests_of_the_table_exist():
    assert rows.absent_tests(FOLDER, HELD.values()) == []
