//! What a sandbox costs, against the same without one in the same run.
//!
//! The shortest of many times, since everything else on the machine only adds to it. The bounds are wide:
//! they tell a mistake from the usual, not a good build from a better one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, for_each_user};

/// From the request to the close of a program that does nothing.
fn time_of_program(client: &mut Client, sandbox: Value) -> Duration {
    let params = client.start(&["/bin/true"], sandbox);
    let begin = Instant::now();
    let finished = client.run(params);
    assert_eq!(finished.code, 0);
    begin.elapsed()
}

fn time_of_reading(client: &mut Client, sandbox: Value) -> Duration {
    let params = json!({"path": client.place.uri("w/a.txt"), "sandbox": sandbox});
    let begin = Instant::now();
    client.ok("fs/readFile", params);
    begin.elapsed()
}

/// The first request under a policy, for which a process has to be made.
fn time_of_reading_first(client: &mut Client, number: u32) -> Duration {
    let name = format!("w/denied-{number}");
    std::fs::write(client.place.path(&name), "").unwrap();
    let deny = format!("deny /{name}");
    let sandbox = client.place.workspace_write(&[&deny]);
    time_of_reading(client, sandbox)
}

/// Takes times in turns, the first without a sandbox, until the shortest of each is within bounds.
fn within(
    client: &mut Client,
    contexts: &[Value],
    factor: u32,
    time: fn(&mut Client, Value) -> Duration,
) {
    let mut shortest = vec![Duration::MAX; contexts.len()];
    for _ in 0..ROUNDS {
        for (context, shortest) in contexts.iter().zip(&mut shortest) {
            *shortest = time(client, context.clone()).min(*shortest);
        }
        let most = shortest[0] * factor + MARGIN;
        if shortest.iter().all(|time| *time < most) {
            return;
        }
    }
    panic!("{shortest:?}");
}

#[test]
fn a_confined_program_costs_a_small_multiple_of_one_that_is_not() {
    for_each_user(|client| {
        let contexts = [
            Value::Null,
            client.place.read_only(),
            client.place.workspace_write(&["write slash_tmp"]),
        ];
        within(client, &contexts, PROGRAM_FACTOR, time_of_program);
    });
}

#[test]
fn a_confined_file_request_costs_a_small_multiple_of_one_that_is_not() {
    for_each_user(|client| {
        let contexts = [Value::Null, client.place.workspace_write(&["deny /w/.env"])];
        within(client, &contexts, FILE_FACTOR, time_of_reading);
    });
}

#[test]
fn the_first_file_request_of_a_policy_costs_a_small_multiple_of_a_program() {
    for_each_user(|client| {
        let (mut program, mut request) = (Duration::MAX, Duration::MAX);
        for round in 0..ROUNDS {
            program = time_of_program(client, Value::Null).min(program);
            request = time_of_reading_first(client, round).min(request);
            if request < program * PROGRAM_FACTOR + MARGIN {
                return;
            }
        }
        panic!("{program:?}, {request:?}");
    });
}

/// Most tries. One is enough on a machine that has nothing else to do.
const ROUNDS: u32 = 200;
const PROGRAM_FACTOR: u32 = 8;
const FILE_FACTOR: u32 = 8;

/// For a slow build.
const MARGIN: Duration = Duration::from_millis(10);
