//! What a program is doing, for `/status`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

/// What a program is doing at the moment.
#[derive(Debug, Clone)]
struct Doing {
    state: &'static str,
    why: Option<String>,
    next_try: Option<Instant>,
    since: Instant,
    since_unix: u64,
}

/// The state of a program, shared by whoever changes it and whoever shows it.
///
/// The names of states come from a closed set of each program; the texts name no secrets, paths or
/// queries, as for the log.
#[derive(Debug)]
pub struct State(Mutex<Doing>);

impl State {
    /// Starts in a state.
    pub fn new(state: &'static str) -> Self {
        Self(Mutex::new(Doing::now(state, None, None)))
    }

    /// Enters a state in which everything is as it should be.
    pub fn enter(&self, state: &'static str) {
        self.set(Doing::now(state, None, None));
    }

    /// Enters a state that has a reason, and ends by itself in `next_try` if that is given.
    pub fn enter_because(&self, state: &'static str, why: String, next_try: Option<Duration>) {
        let next_try = next_try.map(|delay| Instant::now() + delay);
        self.set(Doing::now(state, Some(why), next_try));
    }

    /// The name of the present state.
    pub fn name(&self) -> &'static str {
        self.lock().state
    }

    /// The members that every `/status` has.
    pub fn describe(&self) -> Map<String, Value> {
        let doing = self.lock().clone();
        let mut members = Map::new();
        members.insert("state".to_owned(), json!(doing.state));
        members.insert("since_unix_secs".to_owned(), json!(doing.since_unix));
        members.insert(
            "for_secs".to_owned(),
            json!(doing.since.elapsed().as_secs()),
        );
        members.insert("why".to_owned(), json!(doing.why));
        let next_try = doing
            .next_try
            .map(|at| at.saturating_duration_since(Instant::now()).as_secs_f64());
        members.insert("next_try_secs".to_owned(), json!(next_try));
        members
    }

    fn set(&self, doing: Doing) {
        *self.lock() = doing;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Doing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doing {
    fn now(state: &'static str, why: Option<String>, next_try: Option<Instant>) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            state,
            why,
            next_try,
            since: Instant::now(),
            since_unix: unix.map_or(0, |since| since.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_says_why_and_when_it_ends() {
        let state = State::new("starting");
        assert_eq!(state.describe()["why"], Value::Null);
        state.enter_because(
            "waiting",
            "nobody answers".to_owned(),
            Some(Duration::from_secs(60)),
        );
        let told = state.describe();
        assert_eq!(
            (&told["state"], &told["why"]),
            (&json!("waiting"), &json!("nobody answers"))
        );
        let next_try = told["next_try_secs"].as_f64().unwrap_or_default();
        assert!(next_try > 0.0 && next_try <= 60.0, "{told:?}");
        state.enter("serving");
        assert_eq!(state.name(), "serving");
        assert_eq!(state.describe()["next_try_secs"], Value::Null);
    }
}
