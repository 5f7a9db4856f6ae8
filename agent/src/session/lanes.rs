//! Order among concurrent requests: those for one process or file handle keep the order in which
//! they arrived, all others are independent.
//!
//! A lane is a chain: each request waits for the one that came before it. Nothing is stored for
//! lanes without a request in flight, except until the next sweep.

use std::collections::HashMap;

use tokio_util::sync::{CancellationToken, DropGuard};

/// Finished lanes are forgotten when there are this many.
const SWEEP_AT: usize = 1024;

/// What requests are kept in order for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum LaneKey {
    /// Starts of one process.
    Start(String),
    /// Standard input of one process.
    Input(String),
    /// One file handle.
    Handle(String),
    /// What a streamed HTTP request sends.
    Body(String),
    /// The beginning and the end of one TCP stream.
    TcpOpen(String),
    /// What one TCP stream sends.
    TcpOutput(String),
    /// The watch on missing paths, of which a connection has one.
    Watch,
}

/// A request's place in its lanes.
#[derive(Debug, Default)]
pub(super) struct Place {
    before: Vec<CancellationToken>,
    /// Dropped with the request, whatever its end, which lets the next one go.
    _done: Option<DropGuard>,
}

/// The lanes of one connection.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    tails: HashMap<LaneKey, CancellationToken>,
}

impl Lanes {
    /// Takes the place at the end of lane `enter`, if given, behind what is now in lanes `after`.
    pub(super) fn join(&mut self, enter: Option<LaneKey>, after: &[LaneKey]) -> Place {
        let mut before: Vec<_> = after
            .iter()
            .filter_map(|key| self.tails.get(key).cloned())
            .collect();
        let done = enter.map(|key| {
            if self.tails.len() >= SWEEP_AT {
                self.tails.retain(|_, tail| !tail.is_cancelled());
            }
            let done = CancellationToken::new();
            before.extend(self.tails.insert(key, done.clone()));
            done.drop_guard()
        });
        Place {
            before,
            _done: done,
        }
    }
}

impl Place {
    /// Waits until it is this request's turn.
    pub(super) async fn turn(&self) {
        for before in &self.before {
            before.cancelled().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the future is ready without waiting.
    async fn ready(place: &Place) -> bool {
        tokio::select! {
            biased;
            () = place.turn() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn requests_of_one_lane_take_turns() {
        let mut lanes = Lanes::default();
        let key = || Some(LaneKey::Input("p".into()));
        let first = lanes.join(key(), &[]);
        let second = lanes.join(key(), &[]);
        let other = lanes.join(Some(LaneKey::Input("q".into())), &[]);
        assert!(ready(&first).await && ready(&other).await);
        assert!(!ready(&second).await);
        drop(first);
        assert!(ready(&second).await);
    }

    #[tokio::test]
    async fn a_request_may_wait_for_a_lane_without_entering_it() {
        let mut lanes = Lanes::default();
        let start = LaneKey::Start("p".into());
        let first = lanes.join(Some(start.clone()), &[]);
        let read = lanes.join(None, std::slice::from_ref(&start));
        assert!(!ready(&read).await);
        let next = lanes.join(Some(start), &[]);
        drop(first);
        assert!(
            ready(&read).await && ready(&next).await,
            "the read holds nobody back"
        );
    }

    #[test]
    fn finished_lanes_are_forgotten() {
        let mut lanes = Lanes::default();
        for i in 0..10 * SWEEP_AT {
            drop(lanes.join(Some(LaneKey::Handle(i.to_string())), &[]));
        }
        assert!(lanes.tails.len() <= SWEEP_AT);
    }
}
