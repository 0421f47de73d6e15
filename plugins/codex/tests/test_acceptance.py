"""The table of promises of the plugin: each row has a test through a running gateway or the real command, or says why
it does not apply here.

Rows are named by area: access tokens (AT), accounts (CF, ST), sending (TX), compaction (TC), models and prices (MO),
the provider (PR), quota (QU), sessions, windows and turns (RS), sign-ins (OA, JW, IM, MG), bodies (IN, NA), the
operator's side (CP, DT), the CLI's side (CX, CA, CW), races (X). What the README promises stands below them.
"""

from pathlib import Path

from floway_core.testing import rows

FOLDER = Path(__file__).parent
EXPECTED = """
AT-1..20 CF-1..4 ST-1..18 TX-1..32 TC-1..7 MO-1..22 PR-1..15 QU-1..17 RS-1..9 OA-1..6 JW-1..6 IM-1..5 IN-1..7 NA-1..6
MG-1 CP-1..19 DT-1..3 CX-1..17 CA-1..6 CW-1..4 X-1..4 X-13..17 X-19 X-21..22
"""

TOKENS, ACCOUNTS = "test_acceptance_tokens.py::", "test_acceptance_accounts.py::"
IDENTITY, REQUESTS = "test_acceptance_identity.py::", "test_acceptance_requests.py::"
CONVERSATIONS, LOGIN = "test_conversations.py::", "test_login.py::"

HELD = {
    "AT-1 AT-5 AT-8..9 AT-15..16": f"{TOKENS}test_an_upstream_that_is_removed_meanwhile",
    "AT-2..4 AT-6 AT-12..14 ST-12 TX-3..4": f"{TOKENS}test_when_a_token_is_renewed",
    "AT-7 TX-28 X-2": f"{TOKENS}test_new_tokens_are_stored_before_they_are_used",
    "AT-10..11 X-1": f"{TOKENS}test_fifty_requests_renew_once",
    "AT-17 PR-5": f"{TOKENS}test_an_endpoint_out_of_order_changes_nothing",
    "AT-18 X-3": f"{TOKENS}test_a_sibling_that_was_faster_is_believed",
    "AT-19 TX-1 TX-5 TX-29 TX-31 PR-8 OA-5..6 CP-9": f"{TOKENS}test_a_refusal_for_good_ends_the_account",
    "AT-20 CP-10": f"{TOKENS}test_a_session_that_has_ended_is_no_race",
    "PR-2..3": f"{TOKENS}test_a_list_of_models_needs_a_token_too",
    "OA-4 CP-8 X-4": f"{TOKENS}test_what_the_endpoint_leaves_out_is_kept",
    "CF-1 ST-1 QU-4 JW-1 JW-6 IM-1 CP-3..4": f"{ACCOUNTS}test_an_account_is_imported_shown_and_removed",
    "CF-2..3 ST-4..5 ST-13 JW-2..4 IM-2..3": f"{ACCOUNTS}test_what_is_no_sign_in_is_refused",
    "JW-5 MG-1 X-19": f"{ACCOUNTS}test_an_account_of_an_older_version_gets_an_installation",
    "CF-4 CP-6": f"{LOGIN}test_only_codex_upstreams_can_be_signed_out",
    "ST-2 CP-7": "test_account_states.py::test_a_sign_in_that_has_ended",
    "TX-6 TX-27 TC-2 QU-1 QU-3 QU-6 QU-9 ST-14..15": f"{ACCOUNTS}test_the_quota_in_the_headers_of_an_answer_is_shown",
    "TX-2 TX-25 TX-30 TC-5 QU-2 QU-14..17 X-21": f"{ACCOUNTS}test_a_429_is_shown_relayed_and_bars_nothing",
    "QU-10..11": f"{ACCOUNTS}test_a_quota_that_cannot_be_stored_fails_no_request",
    "MO-2..3 PR-4": f"{ACCOUNTS}test_what_is_no_model_list_is_told",
    "MO-1 MO-4..11 MO-16..22 CX-17": f"{ACCOUNTS}test_models_are_listed_and_entries_kept_whole",
    "MO-12..14": f"{ACCOUNTS}test_a_turn_is_priced_as_the_api_would",
    "TX-7 TX-13 IN-1..7 NA-3 NA-6": f"{REQUESTS}test_what_the_backend_gets",
    "NA-1 NA-5": "test_accepted_values.py::test_items_become_those_that_the_cli_sends",
    "TX-23 TC-4 TC-7": f"{REQUESTS}test_a_401_that_ends_the_sign_in_ends_the_account",
    "TX-24 TX-32 TC-3 TX-11 RS-2 X-14": f"{REQUESTS}test_a_401_is_answered_with_another_token_and_the_same_request",
    "TX-26 TC-6": f"{REQUESTS}test_a_refusal_is_relayed_and_changes_nothing",
    "TC-1 PR-15": f"{REQUESTS}test_a_compaction",
    "PR-9..14": f"{REQUESTS}test_what_is_not_served",
    "CX-1..3 PR-7": f"{REQUESTS}test_the_backends_own_paths_take_a_floway_key",
    "CX-8": f"{REQUESTS}test_a_request_for_no_websocket_is_refused_so_that_the_cli_posts",
    "X-15 CX-9": "test_websocket.py::test_each_turn_has_its_own_ids_although_the_upgrade_stays_the_same",
    "X-22": f"{REQUESTS}test_item_ids_that_would_be_refused_are_left_out_and_the_item_stays",
    "TX-8": f"{IDENTITY}test_noise_in_the_headers_stays_behind",
    "TX-9": f"{IDENTITY}test_two_requests_of_one_session",
    "TX-10 TX-14..16 TX-19..20": f"{IDENTITY}test_what_is_stated_is_what_the_backend_gets",
    "TX-12": f"{IDENTITY}test_two_sessions",
    "TX-17..18 RS-9": f"{IDENTITY}test_what_nobody_states",
    "TX-21..22 X-13": f"{IDENTITY}test_other_keys_of_the_metadata_go_along",
    "RS-1": f"{IDENTITY}test_a_stated_session_comes_before_that_of_the_response_that_is_continued",
    "RS-3": f"{CONVERSATIONS}test_forks_get_windows_of_their_own_even_when_they_race",
    "RS-4": f"{IDENTITY}test_a_compaction_stays_in_its_window_and_what_follows_is_in_the_next",
    "RS-5 RS-8": f"{IDENTITY}test_what_has_the_same_session",
    "RS-6..7": f"{IDENTITY}test_what_has_a_session_of_its_own",
    "X-16": f"{CONVERSATIONS}test_two_api_keys_never_share_a_session",
    "X-17": f"{CONVERSATIONS}test_a_tool_loop_by_id_is_one_turn",
    "OA-1 IM-4 CP-2": f"{LOGIN}test_a_browser_signs_in_and_the_account_can_be_used",
    "OA-2..3": f"{LOGIN}test_a_code_is_of_no_use_without_the_verifier_it_was_made_for",
    "CP-1": f"{LOGIN}test_the_url_is_the_one_that_the_cli_would_open",
}

NOT_APPLICABLE = {
    "ST-3 ST-6..11 ST-16..18": "Each value of an account is a column with its constraints, not part of a text.",
    "MO-15 PR-1 PR-6": "Upstreams have no flags, and no object of their own.",
    "QU-5 QU-7..8 QU-12..13": "What is known of a quota is shown with its age until the backend says otherwise.",
    "NA-2 NA-4": "What the backend gets is made anew for each dispatch; a text becomes parts, as the CLI sends it.",
    "IM-5 CP-11..18": "Proxies are a matter of the process, not of an upstream.",
    "CP-5": "Signing in and importing are two commands.",
    "CP-19 DT-1..3": "There is no export of secrets; a backup is one of the database.",
    "CX-4..7 CX-10..11": "The CLI asks for them elsewhere than at a provider.",
    "CX-12..16 CA-1..6 CW-1..4": "The model list is the backend's own, whole and for the version of the profile.",
}

README = {
    "login prints a page and makes an upstream": f"{LOGIN}test_a_browser_signs_in_and_the_account_can_be_used",
    "login --paste": f"{LOGIN}test_the_url_can_be_pasted",
    "an auth.json can be imported": f"{ACCOUNTS}test_an_account_is_imported_shown_and_removed",
    "signing in again keeps upstream and installation": f"{LOGIN}test_signing_in_again_keeps_upstream_and_installation",
    "logout keeps all but the tokens": f"{LOGIN}test_signing_out_ends_requests_until_somebody_signs_in",
    "upstreams remove removes everything": f"{TOKENS}test_an_upstream_that_is_removed_meanwhile",
    "tokens are encrypted": "test_secrecy.py::test_no_secret_of_an_account_is_ever_written_in_plain",
    "renewed five minutes before": f"{TOKENS}test_when_a_token_is_renewed",
    "renewed when refused": f"{REQUESTS}test_a_401_is_answered_with_another_token_and_the_same_request",
    "threads and workers take turns": "test_sharing.py::test_a_hundred_requests_to_four_workers_refresh_once",
    "hosts take turns": "test_sharing.py::test_two_gateways_on_one_database_refresh_once",
    "stored before it is used": f"{TOKENS}test_new_tokens_are_stored_before_they_are_used",
    "the others go on": "test_sharing.py::test_when_the_refreshing_gateway_is_killed_another_goes_on",
    "status, for programs too": "test_account_states.py::test_a_sign_in_that_has_ended",
    "states end requests with 503": f"{TOKENS}test_a_refusal_for_good_ends_the_account",
    "login and import make it active again": f"{TOKENS}test_a_refusal_for_good_ends_the_account",
    "the list is renewed after ten minutes, and serves for a day": f"{ACCOUNTS}test_the_age_of_a_model_list",
    "a new process serves the last list": "test_account_states.py::test_models_outlive_the_gateway_and_the_network",
    "the quota is never enforced": f"{ACCOUNTS}test_a_429_is_shown_relayed_and_bars_nothing",
    "the backend's own paths": f"{REQUESTS}test_the_backends_own_paths_take_a_floway_key",
    "a CLI keeps its name": f"{IDENTITY}test_a_cli_keeps_its_own_name",
    "others appear as the CLI": f"{IDENTITY}test_noise_in_the_headers_stays_behind",
    "store, stream, fields, tools, instructions": f"{REQUESTS}test_what_the_backend_gets",
    "item ids": f"{REQUESTS}test_item_ids_that_would_be_refused_are_left_out_and_the_item_stays",
    "call ids": f"{REQUESTS}test_call_ids_that_would_be_refused_are_replaced_in_call_and_output",
    "responses-lite": f"{REQUESTS}test_a_responses_lite_model_gets_its_form",
    "anything else is the backend's refusal": f"{REQUESTS}test_anything_else_that_the_backend_refuses_is_its_refusal",
    "the same over all dispatches": f"{REQUESTS}test_a_401_is_answered_with_another_token_and_the_same_request",
    "session, window and turn stated": f"{IDENTITY}test_what_is_stated_is_what_the_backend_gets",
    "an earlier place wins": f"{IDENTITY}test_an_earlier_place_wins",
    "both spellings": f"{IDENTITY}test_both_spellings_on_the_wire",
    "the ids of what is continued": f"{CONVERSATIONS}test_a_client_that_states_its_session_once_keeps_it",
    "a session is derived": f"{IDENTITY}test_what_has_the_same_session",
    "scoped to its key": f"{CONVERSATIONS}test_two_api_keys_never_share_a_session",
    "new ids": f"{IDENTITY}test_what_nobody_states",
    "a stated client request": f"{CONVERSATIONS}test_a_client_request_id_is_passed_on_for_every_caller",
    "other keys are passed on": f"{IDENTITY}test_other_keys_of_the_metadata_go_along",
    "what is malformed is ignored": f"{IDENTITY}test_what_is_malformed_is_ignored",
    "windows and compactions": f"{IDENTITY}test_a_compaction_stays_in_its_window_and_what_follows_is_in_the_next",
    "windows of forks": f"{CONVERSATIONS}test_forks_get_windows_of_their_own_even_when_they_race",
    "outputs of tools belong to the turn": f"{CONVERSATIONS}test_a_tool_loop_by_id_is_one_turn",
    "the turn state comes back through a CLI": f"{CONVERSATIONS}test_a_cli_gets_the_turn_state_and_gives_it_back",
    "it is sealed": f"{CONVERSATIONS}test_a_forged_turn_state_goes_no_further",
    "it stays with its account": f"{CONVERSATIONS}test_a_turn_state_stays_with_its_account",
    "explain": f"{CONVERSATIONS}test_explain_says_where_each_id_comes_from",
    "as if sent directly": "test_differences.py::test_a_request_arrives_as_if_it_had_been_sent_directly",
    "every difference": "test_differences.py::test_every_difference_in_the_table_is_there",
    "a unary compaction is a turn": f"{REQUESTS}test_a_compaction",
    "prices": f"{ACCOUNTS}test_a_turn_is_priced_as_the_api_would",
    "metrics": "test_metrics.py::test_renewals_health_and_quota",
    "a CLI may use a WebSocket": (
        "test_websocket.py::test_each_turn_has_its_own_ids_although_the_upgrade_stays_the_same"
    ),
    "without store a tool loop is two turns": f"{IDENTITY}test_an_unstored_tool_loop_keeps_its_session_alone",
    "a failed try does not count": f"{IDENTITY}test_only_an_answer_that_has_begun_counts_as_a_continuation",
    "the simulator as a command": "test_simulator_control.py::test_serve_until_a_signal",
    "profiles are made from recordings": "test_profile_make.py::test_the_shipped_profiles_are_its_unchanged_output",
    "what a profile lacks is said": "test_profile_make.py::test_it_says_what_is_not_expressed_and_what_is_different",
    "the profile that is most like a request": (
        "test_profile.py::test_a_version_without_a_profile_gets_the_one_that_is_most_like_its_requests"
    ),
    "a newer CLI keeps what it states": "test_profile.py::test_a_newer_cli_keeps_its_version_and_its_headers",
    "status tells that a profile is missing": (
        "test_clients.py::test_a_version_that_is_newer_than_any_profile_is_told"
    ),
    "other clients look like the newest CLI": (
        "test_profile.py::test_a_turn_of_another_client_looks_like_one_of_the_cli"
    ),
    "on the gateway's host": "test_profile.py::test_a_stated_host_is_that_of_the_user_agent",
    "own requests are the CLI's": "test_profile.py::test_own_requests_are_those_of_the_cli",
    "own requests speak for the account's clients": (
        "test_clients.py::test_own_requests_are_those_of_the_cli_that_uses_the_account"
    ),
    "the quota without a turn": "test_usage.py::test_status_shows_what_the_backend_says_now",
    "the prompt cache stays warm": "test_warmth.py::test_thirty_turns_with_tools_and_reasoning_keep_their_beginning",
    "the settings": f"{ACCOUNTS}test_each_setting_does_what_it_says",
}  # fmt: skip


def test_each_row_stands_in_the_table_once():
    assert rows.repeated_and_missing(EXPECTED, (HELD, NOT_APPLICABLE)) == ([], [])


def test_the_tests_of_the_table_exist():
    assert rows.absent_tests(FOLDER, [*HELD.values(), *README.values()]) == []
