//! On a virtual clock; the path is three numbers: round trip, pace, and when it dies.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const DEAD_WITHIN: Duration = Duration::from_secs(5);

/// A path with a fixed round trip that carries bytes in order at a pace, until it is cut.
struct Path {
    keepalive: Keepalive,
    now: Instant,
    round_trip: Duration,
    /// Bytes per second.
    pace: u64,
    /// When the last byte handed over will have left.
    clear: Instant,
    cut: Option<Instant>,
    pong: Option<Instant>,
    is_watched: bool,
    pings: u32,
}

impl Path {
    fn new(round_trip: Duration, pace: u64) -> Self {
        let now = Instant::now();
        Self {
            keepalive: Keepalive::new(KeepaliveConfig::default(), now),
            now,
            round_trip,
            pace,
            clear: now,
            cut: None,
            pong: None,
            is_watched: true,
            pings: 0,
        }
    }

    /// Hands bytes over at once, as to a socket with room for them.
    fn send(&mut self, bytes: u64) {
        self.keepalive.sent(usize::try_from(bytes).unwrap());
        let time = Duration::from_millis(bytes * 1_000 / self.pace);
        self.clear = self.clear.max(self.now) + time;
    }

    /// Runs for a time, or until the path is found dead, which is then returned.
    fn run(&mut self, time: Duration) -> Option<Instant> {
        let end = self.now + time;
        loop {
            while self.keepalive.take_ping(self.now) {
                self.pings += 1;
                let answered = self.clear.max(self.now) + self.round_trip;
                self.pong = self
                    .cut
                    .is_none_or(|cut| answered < cut)
                    .then_some(answered);
            }
            let due = self.keepalive.deadline(self.is_watched);
            let next = [due, self.pong].into_iter().flatten().min()?;
            if next > end {
                self.now = end;
                return None;
            }
            self.now = self.now.max(next);
            if self.pong.is_some_and(|pong| pong <= self.now) {
                self.pong = None;
                self.keepalive.pong(self.now);
            }
            self.keepalive.watch(self.now, self.is_watched);
            if self.keepalive.is_dead(self.now) {
                return Some(self.now);
            }
        }
    }

    fn cut(&mut self) -> Instant {
        self.cut = Some(self.now);
        self.pong = None;
        self.now
    }
}

#[test]
fn a_watched_path_is_found_dead_within_five_seconds_whenever_it_dies() {
    for moment in 0..40 {
        let mut path = Path::new(100 * MS, 10_000_000);
        assert_eq!(path.run(Duration::from_secs(3)), None);
        path.run(moment * 100 * MS);
        let cut = path.cut();
        let dead = path.run(Duration::from_secs(60)).unwrap();
        assert!(dead - cut <= DEAD_WITHIN, "{moment}: {:?}", dead - cut);
    }
}

#[test]
fn a_path_that_nobody_watches_has_few_pings_and_much_time() {
    let mut path = Path::new(100 * MS, 10_000_000);
    path.is_watched = false;
    assert_eq!(path.run(Duration::from_secs(600)), None);
    assert_eq!(path.pings, 40);
    let cut = path.cut();
    let dead = path.run(Duration::from_secs(60)).unwrap();
    // The last ping before it was under way.
    assert_eq!(dead - cut, limits::PONG_TIMEOUT);
}

#[test]
fn a_path_that_comes_to_be_watched_is_measured_before_it_is_judged() {
    // Longer than the shortest time for a sign of life.
    let mut path = Path::new(Duration::from_secs(4), 10_000_000);
    path.is_watched = false;
    assert_eq!(path.run(Duration::from_secs(1)), None);
    assert_eq!(path.pings, 0);
    path.is_watched = true;
    assert_eq!(path.run(Duration::from_secs(600)), None);
    let cut = path.cut();
    let dead = path.run(Duration::from_secs(60)).unwrap();
    assert!(dead - cut <= limits::WATCHED_PING_INTERVAL + limits::PONG_TIMEOUT + 4_000 * MS);
}

#[test]
fn a_ping_that_is_out_when_watching_begins_gets_the_whole_time() {
    let mut path = Path::new(100 * MS, 10_000_000);
    path.is_watched = false;
    assert_eq!(path.run(Duration::from_secs(14)), None);
    let cut = path.cut();
    // The ping is out for longer than a watched one may be.
    assert_eq!(path.run(Duration::from_secs(10)), None);
    path.is_watched = true;
    let began = path.now;
    // Never measured, so never judged quickly.
    let dead = path.run(Duration::from_secs(60)).unwrap();
    assert!(dead > began && dead - cut <= limits::PING_INTERVAL + limits::PONG_TIMEOUT);
}

#[test]
fn a_backlog_on_a_slow_path_is_waited_for() {
    // A burst that takes five seconds, on a path of which only the round trip is known.
    let mut path = Path::new(50 * MS, 40_000);
    assert_eq!(path.run(Duration::from_secs(4)), None);
    for _ in 0..50 {
        path.send(200_000);
        assert_eq!(path.run(Duration::from_secs(20)), None);
    }
    // And when it was carried, dead is dead.
    let cut = path.cut();
    let dead = path.run(Duration::from_secs(60)).unwrap();
    assert!(dead - cut < Duration::from_secs(20));
}

#[test]
fn a_pace_that_was_seen_shortens_the_time_for_a_backlog() {
    let mut path = Path::new(50 * MS, 10_000_000);
    for _ in 0..100 {
        path.send(1_000_000);
        assert_eq!(path.run(100 * MS), None);
    }
    path.send(1_000_000);
    let cut = path.cut();
    let dead = path.run(Duration::from_secs(60)).unwrap();
    assert!(dead - cut <= DEAD_WITHIN + 100 * MS, "{:?}", dead - cut);
}

#[test]
fn writes_that_go_on_are_life_until_the_pong_is_overdue() {
    for is_watched in [true, false] {
        let mut path = Path::new(50 * MS, 10_000_000);
        path.is_watched = is_watched;
        path.run(Duration::from_secs(20));
        let cut = path.cut();
        let dead = loop {
            if let Some(dead) = path.run(Duration::from_secs(1)) {
                break dead;
            }
            path.keepalive.wrote(path.now);
        };
        assert!(dead - cut > limits::PONG_HARD_TIMEOUT - limits::PING_INTERVAL);
        assert!(dead - cut <= limits::PONG_HARD_TIMEOUT + limits::PING_INTERVAL);
    }
}

#[test]
fn an_end_that_was_asleep_looks_again_before_it_judges() {
    let mut path = Path::new(50 * MS, 10_000_000);
    assert_eq!(path.run(Duration::from_secs(4)), None);
    let woke = path.cut() + Duration::from_secs(10_000);
    // A ping was due in its sleep, and one that is due now is not judged yet.
    assert!(!path.keepalive.is_dead(woke));
    assert!(path.keepalive.take_ping(woke));
    let late = woke + Duration::from_secs(10_000);
    assert!(!path.keepalive.is_dead(late));
    let dead = path.keepalive.deadline(true).unwrap();
    assert_eq!(dead - late, limits::SUSPECT_PONG_TIMEOUT);
    assert!(path.keepalive.is_dead(dead));
}

#[test]
fn suspicion_asks_at_once_and_gives_little_time() {
    let mut path = Path::new(50 * MS, 10_000_000);
    path.is_watched = false;
    assert_eq!(path.run(Duration::from_secs(1)), None);
    path.cut();
    path.keepalive.suspect(path.now);
    let asked = path.now;
    let dead = path.run(Duration::from_secs(60)).unwrap();
    assert_eq!(dead - asked, limits::SUSPECT_PONG_TIMEOUT);
    assert_eq!(path.pings, 1);
}

#[test]
fn who_does_not_read_judges_nobody() {
    let mut path = Path::new(50 * MS, 10_000_000);
    assert_eq!(path.run(Duration::from_secs(4)), None);
    path.keepalive.suspend();
    path.keepalive.suspect(path.now);
    assert_eq!(path.keepalive.deadline(true), None);
    path.now += Duration::from_secs(1_000);
    assert!(!path.keepalive.is_dead(path.now) && !path.keepalive.take_ping(path.now));
    path.pong = None;
    path.keepalive.resume();
    let pings = path.pings;
    assert_eq!(path.run(Duration::from_secs(60)), None);
    assert!(path.pings > pings);
}

proptest! {
    /// No path that carries what it is given at the slowest pace that is waited for is ever found
    /// dead, whatever its round trip and whoever watches when.
    #[test]
    fn a_living_path_is_never_found_dead(
        round_trip in 0_u32..4_000,
        pace in limits::SLOW_PATH_PACE..10_000_000,
        acts in proptest::collection::vec((0_u64..150_000, 0_u64..8_000, any::<bool>()), 1..60),
    ) {
        let mut path = Path::new(round_trip * MS, pace);
        for (bytes, millis, is_watched) in acts {
            path.is_watched = is_watched;
            // A socket does not take more than it holds.
            let backlog = path.clear.saturating_duration_since(path.now).as_secs_f64();
            if backlog * pace as f64 + (bytes as f64) < limits::SOCKET_BACKLOG_BYTES as f64 / 2.0 {
                path.send(bytes);
            }
            prop_assert_eq!(path.run(Duration::from_millis(millis)), None);
        }
    }
}
