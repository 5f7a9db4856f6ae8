//! Sessions against a naive model: any sequence of connecting, losing connections and waiting, on a
//! paused clock.

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

/// What may happen. Numbers choose among the sessions there have been so far.
#[derive(Debug, Clone)]
enum Step {
    Open,
    /// The client goes away.
    Lose(usize),
    /// The client breaks the protocol and is sent away.
    Offend(usize),
    Resume(usize),
    /// The client asks for that life without a connection, in milliseconds.
    Keep(usize, u64),
    /// The client ends its session.
    Close(usize),
    Wait(Duration),
    Shutdown,
}

fn step() -> impl Strategy<Value = Step> {
    // No sum of the waits is a time to live, so nothing depends on what comes first in one instant.
    let wait = prop_oneof![8 => 1..14_u64, 2 => 1..90_u64, 1 => Just(12_343)];
    let wait = wait.prop_map(|weeks| Step::Wait(Duration::from_secs(7 * weeks)));
    let keep = prop::sample::select(vec![0, 79_999, 100_000, 500_000, u64::MAX]);
    prop_oneof![
        4 => Just(Step::Open),
        4 => any::<usize>().prop_map(Step::Lose),
        1 => any::<usize>().prop_map(Step::Offend),
        8 => any::<usize>().prop_map(Step::Resume),
        3 => (any::<usize>(), keep).prop_map(|(number, time)| Step::Keep(number, time)),
        1 => any::<usize>().prop_map(Step::Close),
        6 => wait,
        1 => Just(Step::Shutdown),
    ]
}

/// A session as the model knows it.
struct Known {
    id: String,
    client: Option<Client>,
    /// When its last connection ended.
    detached: Instant,
    /// How long it lives from then on.
    life: Duration,
    /// Whether its client has ended it.
    closed: bool,
}

impl Known {
    fn is_expired(&self) -> bool {
        self.closed || (self.client.is_none() && self.detached.elapsed() > self.life)
    }
}

async fn agree(steps: Vec<Step>) {
    let sessions = sessions();
    let mut known: Vec<Known> = Vec::new();
    let choose = |number: usize, known: &Vec<Known>| number.checked_rem(known.len());
    for step in steps {
        match step {
            Step::Open => {
                let (client, id) = Client::open(&sessions).await;
                assert!(known.iter().all(|other| other.id != id));
                known.push(Known {
                    id,
                    client: Some(client),
                    detached: Instant::now(),
                    life: Duration::from_secs(80),
                    closed: false,
                });
            }
            Step::Lose(number) => {
                if let Some(chosen) = choose(number, &known)
                    && let Some(client) = known[chosen].client.take()
                {
                    client.disconnect().await;
                    known[chosen].detached = Instant::now();
                }
            }
            Step::Offend(number) => {
                if let Some(chosen) = choose(number, &known)
                    && let Some(mut client) = known[chosen].client.take()
                {
                    client.notify("no/such").await;
                    assert_eq!(client.recv().await, None);
                    client.served.await.unwrap();
                    known[chosen].detached = Instant::now();
                }
            }
            Step::Resume(number) => {
                let Some(chosen) = choose(number, &known) else {
                    continue;
                };
                let chosen = &mut known[chosen];
                let mut client = Client::connect(&sessions);
                let params = json!({"clientName": "x", "resumeSessionId": chosen.id});
                let result = client.call("initialize", params).await;
                if chosen.client.is_some() {
                    assert_eq!(result.unwrap_err().0, -32010, "it is attached");
                } else if chosen.is_expired() {
                    let text = format!("unknown session id {}", chosen.id);
                    assert_eq!(result.unwrap_err(), (-32600, text));
                } else {
                    assert_eq!(result.unwrap()["sessionId"], chosen.id);
                    client.notify("initialized").await;
                    chosen.client = Some(client);
                }
            }
            Step::Keep(number, time) => {
                if let Some(chosen) = choose(number, &known)
                    && let Some(client) = &mut known[chosen].client
                {
                    let granted = time.clamp(80_000, 86_400_000);
                    let kept = client.ok("session/keep", json!({"detachedMs": time})).await;
                    assert_eq!(kept, json!({"detachedMs": granted}));
                    known[chosen].life = Duration::from_millis(granted);
                }
            }
            Step::Close(number) => {
                if let Some(chosen) = choose(number, &known)
                    && let Some(mut client) = known[chosen].client.take()
                {
                    client.ok("session/close", json!(null)).await;
                    let (code, _) = client.err("environment/status", json!(null)).await;
                    assert_eq!(code, -32600);
                    client.disconnect().await;
                    known[chosen].closed = true;
                }
            }
            Step::Wait(time) => tokio::time::sleep(time).await,
            Step::Shutdown => {
                sessions.shutdown().await;
                for client in known.iter_mut().filter_map(|it| it.client.as_mut()) {
                    assert_eq!(client.recv().await, None);
                }
                assert_eq!(sessions.session_count(), 0);
                return;
            }
        }
        for client in known.iter_mut().filter_map(|it| it.client.as_mut()) {
            client.ok("environment/status", json!(null)).await;
        }
        let alive = known.iter().filter(|session| !session.is_expired()).count();
        assert_eq!(sessions.session_count(), alive);
    }
}

proptest! {
    #[test]
    fn sessions_agree_with_a_naive_model(steps in prop::collection::vec(step(), 1..40)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(agree(steps));
    }
}
