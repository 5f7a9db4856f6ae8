//! What the reference does badly, numbered as in the description of its wire protocol, and the tests
//! that keep us from doing the same. Those that are not in this program are beside the code.
//!
//! | weakness | prevented by |
//! |---|---|
//! | 1 Nagle's algorithm delays events | `accepted_sockets_do_not_wait_for_acknowledgements` |
//! | 2 no coalescing | `three_thousand_single_bytes_do_not_make_hundreds_of_notifications`, `bulk_output_is_not_cut_into_small_pieces`, `single_bytes_of_one_moment_make_two_events`, `output_after_a_pause_goes_at_once_and_what_follows_two_milliseconds_later` |
//! | 3 head-of-line blocking | `nothing_that_waits_holds_up_the_connection`, `long_poll_holds_nothing_up` |
//! | 4 writes change their order | `pipelined_requests_for_one_process_keep_their_order` |
//! | 5 who does not read cannot cancel | `a_client_that_does_not_read_can_still_end_its_process` |
//! | 6 a process for each confined file request | `file_requests_of_a_policy_share_a_process` |
//! | 7 many small calls at the start | `forty_small_file_calls_take_one_round_trip`, `calls_are_made_in_order_and_each_has_its_own_outcome` |
//! | 8 one block in flight | `blocks_of_a_file_can_be_under_way_at_once` |
//! | 9 each login shell pays for its profile | `state_of_the_profile_is_restored_without_running_it_again`, `profile_that_takes_too_long_is_not_waited_for_again` |
//! | 10 no window resize, no `TERM` | `terminal_has_the_size_and_the_kind_that_were_asked_for`, `program_hears_of_a_new_size` |
//! | 11 input cannot be closed | `closed_input_lets_a_filter_finish`, `input_is_closed_in_order_and_only_where_it_can_be` |
//! | 12 one signal, no clean end | `signals_arrive_by_name`, `grace_lets_a_program_clean_up` |
//! | 13 children of an exited program | `what_an_exited_program_left_behind_can_be_ended`, `signal_after_the_exit_reaches_what_was_left_in_the_group` |
//! | 14 exit codes of terminals | `exit_codes_of_signals_are_the_same_with_and_without_a_terminal` |
//! | 15 `arg0`, scripts on a terminal | `arg0_never_changes_which_program_runs`, `a_script_without_interpreter_is_an_error_on_a_terminal_too` |
//! | 16 no list, close or cancel | `list_tells_states_and_no_arguments`, `closed_session_is_gone_with_everything_in_it`, `long_poll_is_given_up_and_answered_once` |
//! | 16 a watch cannot be taken back | `watch_that_was_taken_back_is_silent` |
//! | 17 evicted output is not told | `reader_is_told_what_was_evicted` |
//! | 18 lost writes are accepted | `input_that_nobody_can_read_is_not_accepted` |
//! | 19 no upload stream, no raw TCP | `body_in_parts_arrives_whole_and_in_order`, `body_that_breaks_off_is_not_taken_for_whole_and_waits_for_room`, `bytes_go_both_ways_and_each_direction_ends_alone`, `client_that_does_not_read_stops_the_other_side`, `peer_that_does_not_read_holds_up_its_own_writes_only` |
//! | 20 copy of a file onto itself | `a_file_copied_onto_itself_stays_as_it_is` |
//! | 21 half-written files | `a_reader_never_sees_a_part`, `a_kill_in_the_middle_of_writing_leaves_a_whole_file`, `a_peer_that_leaves_in_the_middle_of_a_replacement_leaves_the_old_file` |
//! | 21 no fsync, append or rename | `files_and_directories_are_synced_and_nothing_else`, `appends_go_to_the_end_and_say_where_that_was`, `rename_replaces_unless_it_may_not` |
//! | 22 no time of creation | `times_and_size_are_those_of_the_target` |
//! | 23 names that are not UTF-8 | `names_that_are_not_unicode_come_with_their_path`, `names_that_are_not_unicode_are_listed_and_entered` |
//! | 24 `%2F` becomes a separator | `encoded_separator_is_refused` |
//! | 25 files too large for a message | `a_file_is_never_answered_with_more_than_a_peer_can_take`, `a_file_that_does_not_fit_into_a_message_is_refused_and_read_in_blocks` |
//! | 26 a copy cannot be resumed | `a_tree_is_merged_and_the_copy_can_be_repeated` |
//! | 27 half-open peers | `a_half_open_peer_is_noticed_and_its_session_can_be_resumed`, `a_silent_peer_is_dropped_after_the_deadline` |
//! | 28 no limits | `idle_connections_cost_little_memory`, `sessions_beyond_the_limit_are_refused_and_the_others_go_on`, `requests_beyond_the_limit_stay_with_the_transport` |
//! | 29 512 terminals stop everything | `a_thousand_terminals_hold_up_neither_files_nor_exits` |
//! | 30 endless bodies, hidden causes | `a_buffered_body_over_the_limit_is_refused_by_its_announcement`, `a_buffered_body_over_the_limit_is_refused_while_it_comes`, `causes_are_told_and_queries_are_not` |
//! | 31 input is not bounded in bytes | `bytes_in_the_queue_are_bounded_too` |
//! | 32 no close codes, anonymous parse errors | `shutdown_and_violations_have_their_own_codes`, `an_unparsable_message_can_be_told_from_others` |
//! | 33 children see credentials | `the_secret_is_in_no_environment_argument_descriptor_or_log`, `own_credentials_are_not_in_the_snapshot` |
//! | 34 `/proc` shows the environment | `no_way_leads_to_the_environment_of_the_executor`, `the_own_environment_and_memory_cannot_be_read` |
//! | 35 the denylist is short | `what_looks_like_a_credential_needs_permission` |
//! | 36 queries of URLs in errors | `causes_are_told_and_queries_are_not` |
//! | 37 an interrupt ends the launcher | `signals_reach_the_program_and_not_a_launcher` |
//! | 38 denial is a search for words | `exit_codes_and_signals_are_the_programs`, `words_count_only_for_failed_programs_and_within_a_stream` |
//! | 39 bash reads the file of interactive shells | `without_network_bash_does_not_read_the_file_for_interactive_shells` |
//! | 40 the launcher crashes upon options | `no_option_of_the_sandbox_makes_its_launcher_crash`, `what_cannot_be_enforced_is_refused` |

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "../support/sources.rs"]
mod sources;
#[path = "../support/mod.rs"]
mod support;

mod filesystem;
mod latency_and_throughput;
mod missing_or_incomplete;
mod peer;
mod resources;
mod sandboxes;
mod secrets;

use std::collections::BTreeSet;

/// A renamed test must not leave a weakness without one.
#[test]
fn every_weakness_has_its_tests() {
    let tests = sources::tests_of_this_project();
    let rows = include_str!("main.rs").lines();
    let rows = rows.filter_map(|line| line.strip_prefix("//! | "));
    let mut numbers = BTreeSet::new();
    for (weakness, cell) in rows.filter_map(|row| row.split_once(" | ")) {
        let number = weakness.split(' ').next();
        let Some(number) = number.and_then(|word| word.parse().ok()) else {
            continue;
        };
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{weakness}");
        for name in names {
            assert!(tests.contains(name), "{weakness}: {name}");
        }
        numbers.insert(number);
    }
    assert_eq!(numbers, (1..=40).collect::<BTreeSet<u32>>());
}
