//! How much of one stream may be on its way: enough to keep the path busy, and little more.
//!
//! What is sent beyond that arrives no earlier. It waits in queues on the way, where it delays every
//! other stream of the same websocket. A path carries, in its shortest round-trip time, what was on
//! the way when a record was sent by the round-trip time of that record (Little's law). Twice as much
//! is allowed, so that a path that could carry more is found out in a few round trips.
//!
//! ```text
//! no queue:  round trip = shortest   ->  allowed = 2 x on the way, doubles each round trip
//! a queue:   round trip = 2 x        ->  allowed = on the way, stays
//! ```

use std::time::Duration;

use crate::limits;

/// The bound of one stream on one path.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Shortest round-trip time so far: that of an empty path.
    shortest: Option<Duration>,
    allowed: usize,
}

impl Default for Flight {
    fn default() -> Self {
        Self {
            shortest: None,
            allowed: limits::STREAM_FLIGHT_BYTES,
        }
    }
}

impl Flight {
    /// Bytes that may be on their way.
    pub(crate) fn allowed(&self) -> usize {
        self.allowed
    }

    /// Takes the round-trip time of a record that was sent once, and how many bytes were on their way
    /// then, with it.
    pub(crate) fn sample(&mut self, rtt: Duration, on_the_way: usize) {
        let rtt = rtt.max(SHORTEST);
        let shortest = self.shortest.map_or(rtt, |shortest| shortest.min(rtt));
        self.shortest = Some(shortest);
        let carried = on_the_way as f64 * (shortest.as_secs_f64() / rtt.as_secs_f64());
        let wanted = 2.0 * carried;
        let allowed = self.allowed as f64;
        // Less is allowed slowly: a program that pauses has little on the way, and goes on.
        let next = match wanted >= allowed {
            true => wanted,
            false => allowed + (wanted - allowed) / 8.0,
        };
        let (least, most) = (limits::STREAM_FLIGHT_BYTES, limits::STREAM_UNACKED_BYTES);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between two limits, and both fit"
        )]
        let next = next.clamp(least as f64, most as f64) as usize;
        self.allowed = next;
    }

    /// Forgets what was measured on another path.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }
}

/// Below this a round-trip time says more of the clock and the scheduler than of the path.
const SHORTEST: Duration = Duration::from_micros(50);

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses all that is allowed on a path of so many bytes per second, for some round trips.
    fn used(flight: &mut Flight, rate: f64, shortest: Duration, rounds: u32) {
        // The first record finds the path empty.
        flight.sample(shortest, 1_000);
        for _ in 0..rounds {
            let on_the_way = flight.allowed();
            let rtt = shortest.max(Duration::from_secs_f64(on_the_way as f64 / rate));
            flight.sample(rtt, on_the_way);
        }
    }

    #[test]
    fn a_long_path_gets_all_there_is_within_a_few_round_trips() {
        let mut flight = Flight::default();
        used(&mut flight, 1e9, Duration::from_millis(100), 4);
        assert_eq!(flight.allowed(), limits::STREAM_UNACKED_BYTES);
    }

    #[test]
    fn a_path_that_is_full_gets_twice_what_it_carries() {
        let mut flight = Flight::default();
        // It carries 500 kB in a round trip.
        used(&mut flight, 25e6, Duration::from_millis(20), 50);
        let allowed = flight.allowed();
        assert!((900_000..1_100_000).contains(&allowed), "{allowed}");
    }

    #[test]
    fn a_short_path_gets_the_least() {
        let mut flight = Flight::default();
        used(&mut flight, 300e6, Duration::from_micros(200), 50);
        assert_eq!(flight.allowed(), limits::STREAM_FLIGHT_BYTES);
    }

    #[test]
    fn another_path_is_measured_anew() {
        let mut flight = Flight::default();
        used(&mut flight, 1e9, Duration::from_millis(100), 4);
        flight.restart();
        assert_eq!(flight.allowed(), limits::STREAM_FLIGHT_BYTES);
        used(&mut flight, 1e9, Duration::from_millis(200), 4);
        assert_eq!(flight.allowed(), limits::STREAM_UNACKED_BYTES);
    }

    #[test]
    fn a_pause_lowers_it_slowly() {
        let mut flight = Flight::default();
        used(&mut flight, 1e9, Duration::from_millis(100), 4);
        flight.sample(Duration::from_millis(100), 100);
        assert!(flight.allowed() > limits::STREAM_UNACKED_BYTES / 8 * 7 - 1);
        for _ in 0..100 {
            flight.sample(Duration::from_millis(100), 100);
        }
        assert_eq!(flight.allowed(), limits::STREAM_FLIGHT_BYTES);
    }
}
