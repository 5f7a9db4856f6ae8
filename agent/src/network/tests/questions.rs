//! One question for many, and answers that mean something.

use exec_proto::network::{PolicyTarget, Protocol};

use super::super::questions::Answer;
use super::*;

fn target(host: &str) -> PolicyTarget {
    PolicyTarget {
        protocol: Protocol::Http,
        host: host.to_owned(),
        port: 80,
    }
}

fn questions() -> (Client, Arc<Attachment>, Arc<Questions>) {
    let (client, attachment) = Client::attached();
    let questions = Arc::new(Questions::new(Arc::clone(&attachment)));
    (client, attachment, questions)
}

fn ask(questions: &Arc<Questions>, host: &str, time: Duration) -> AbortOnDropHandle<Answer> {
    let (questions, target) = (Arc::clone(questions), target(host));
    AbortOnDropHandle::new(tokio::spawn(async move {
        questions.ask("p", target, time).await
    }))
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn those_who_wait_share_a_question_and_later_ones_ask_again() {
    let (mut client, _attachment, questions) = questions();
    for _ in 0..2 {
        let waiting: Vec<_> = (0..5).map(|_| ask(&questions, "a.com", LONG)).collect();
        let question = client.next().await;
        assert_eq!(question["method"], "network/policyRequest");
        let request = json!({"protocol": "http", "host": "a.com", "port": 80});
        assert_eq!(
            question["params"],
            json!({"processId": "p", "request": request})
        );
        // All of them have asked: a question about something else comes after theirs.
        tokio::task::yield_now().await;
        let other = ask(&questions, "b.com", LONG);
        let second = client.next().await;
        assert_eq!(second["params"]["request"]["host"], "b.com");
        assert!(client.answer(&question, json!({"type": "allow"})));
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), Answer::Allow);
        }
        assert!(client.answer(&second, json!({"type": "deny", "reason": "no"})));
        assert_eq!(other.await.unwrap(), Answer::Deny("no".to_owned()));
    }
    assert!(client.nothing_came());
}

#[tokio::test]
async fn what_is_allowed_for_the_session_is_not_asked_again() {
    let (mut client, _attachment, questions) = questions();
    let first = ask(&questions, "a.com", LONG);
    let question = client.next().await;
    client.answer(&question, json!({"type": "allow", "scope": "session"}));
    assert_eq!(first.await.unwrap(), Answer::Allow);
    assert_eq!(ask(&questions, "a.com", LONG).await.unwrap(), Answer::Allow);
    assert!(client.nothing_came());
    // Another port is another question.
    let mut other = target("a.com");
    other.port = 81;
    let asked = questions.ask("p", other, LONG);
    let answer = async {
        let question = client.next().await;
        client.answer(&question, json!({"type": "ask", "reason": ""}));
    };
    let (outcome, ()) = tokio::join!(asked, answer);
    assert_eq!(outcome, Answer::Ask(String::new()));
}

#[tokio::test]
async fn answers_without_a_meaning_deny() {
    let (mut client, _attachment, questions) = questions();
    for answer in [
        json!({"type": "maybe"}),
        json!({"type": "deny"}),
        json!({"type": "deny", "reason": "x".repeat(1025)}),
        json!({"type": "deny", "reason": "two\nlines"}),
        json!({"type": "ask", "reason": "\u{7f}"}),
        json!({}),
        json!(null),
    ] {
        let waiting = ask(&questions, "a.com", LONG);
        let question = client.next().await;
        assert!(client.answer(&question, answer.clone()));
        assert_eq!(waiting.await.unwrap(), Answer::None, "{answer}");
    }
    let waiting = ask(&questions, "a.com", LONG);
    let id = client.next().await["id"].as_i64().unwrap();
    let error = exec_proto::RpcError::method_not_found("network/policyRequest");
    assert!(client.outbox.answered(&id.into(), Err(error)));
    assert_eq!(waiting.await.unwrap(), Answer::None);
    // Scopes that nobody knows are the narrowest.
    for _ in 0..2 {
        let waiting = ask(&questions, "a.com", LONG);
        let question = client.next().await;
        client.answer(&question, json!({"type": "allow", "scope": "forever"}));
        assert_eq!(waiting.await.unwrap(), Answer::Allow);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_denies_in_time_and_a_late_answer_is_no_offence() {
    let (mut client, _attachment, questions) = questions();
    let begun = tokio::time::Instant::now();
    let time = Duration::from_millis(7_000);
    assert_eq!(ask(&questions, "a.com", time).await.unwrap(), Answer::None);
    assert_eq!(begun.elapsed(), time);
    let question = client.next().await;
    assert!(client.answer(&question, json!({"type": "allow", "scope": "session"})));
    // It came too late to allow anything.
    assert_eq!(ask(&questions, "a.com", time).await.unwrap(), Answer::None);
    // Ids that were never given out are not answers.
    for id in [0, -1, 3] {
        assert!(
            !client.answer(&json!({"id": id}), json!({"type": "allow"})),
            "{id}"
        );
    }
}

#[tokio::test]
async fn whoever_goes_does_not_take_the_question_with_them() {
    let (mut client, _attachment, questions) = questions();
    let first = ask(&questions, "a.com", LONG);
    let question = client.next().await;
    let second = ask(&questions, "a.com", LONG);
    // Lets the second join.
    tokio::task::yield_now().await;
    drop(first);
    client.answer(&question, json!({"type": "allow"}));
    assert_eq!(second.await.unwrap(), Answer::Allow);
}

#[tokio::test]
async fn nobody_is_asked_when_nobody_is_there() {
    let (client, attachment, questions) = questions();
    let waiting = ask(&questions, "a.com", LONG);
    let mut client = client;
    client.next().await;
    // The connection ends under the question.
    drop(client);
    assert_eq!(waiting.await.unwrap(), Answer::None);
    attachment.detach();
    assert_eq!(ask(&questions, "a.com", LONG).await.unwrap(), Answer::None);
}

#[tokio::test]
async fn open_questions_have_a_limit() {
    let (mut client, _attachment, questions) = questions();
    let mut waiting = Vec::new();
    for number in 0..256 {
        waiting.push(ask(&questions, &format!("{number}.com"), LONG));
        client.next().await;
    }
    assert_eq!(
        ask(&questions, "more.com", LONG).await.unwrap(),
        Answer::None
    );
    // Given up, they make room.
    waiting.clear();
    let question = async {
        loop {
            let asked = ask(&questions, "more.com", LONG);
            // Those that were given up end in their own time.
            if let Ok(message) =
                tokio::time::timeout(Duration::from_millis(100), client.messages.recv()).await
            {
                return (asked, message.unwrap());
            }
        }
    };
    let (_asked, message) = tokio::time::timeout(DEADLINE, question).await.unwrap();
    let question: Value = serde_json::from_slice(&message).unwrap();
    assert_eq!(question["params"]["request"]["host"], "more.com");
}

#[tokio::test]
async fn a_burst_of_connections_asks_once_and_private_addresses_stay_closed() {
    let mut bench = Bench::new(
        json!({"reviewDomains": ["127.0.0.1"],
        "domains": {"127.0.0.1": "allow"}}),
        true,
    )
    .await;
    let replies = async {
        let gets = (0..6).map(|_| get(bench.http, "loopback.example"));
        futures_util::future::join_all(gets).await
    };
    let answer = async {
        let question = bench.client.next().await;
        assert_eq!(question["method"], "network/policyRequest");
        let allow = json!({"type": "allow", "scope": "session"});
        bench.client.answer(&question, allow);
        let mut notices = Vec::new();
        while notices.len() < 6 {
            let notice = bench.client.next().await;
            assert_eq!(
                notice["method"], "network/policyDecision",
                "one question for all"
            );
            notices.push(notice);
        }
    };
    let (replies, ()) = tokio::join!(replies, answer);
    for reply in replies {
        assert_eq!(reply.json()["reason"], "not_allowed_local");
    }

    let (port, _requests) =
        server("\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let host = format!("127.0.0.1:{port}");
    let reply = get(bench.http, &host);
    let answer = async {
        let question = bench.client.next().await;
        assert_eq!(question["params"]["request"]["host"], "127.0.0.1");
        bench.client.answer(&question, json!({"type": "allow"}));
        let notice = bench.client.next().await;
        assert_eq!(notice["params"]["policyOverride"], true);
        assert_eq!(notice["params"]["source"], "decider");
    };
    let (reply, ()) = tokio::join!(reply, answer);
    assert_eq!(reply.status, 200);

    for (decision, kind, reason) in [
        (
            json!({"type": "deny", "reason": "because"}),
            "deny",
            "because",
        ),
        (
            json!({"type": "deny", "reason": ""}),
            "deny",
            "policy_denied",
        ),
        (
            json!({"type": "ask", "reason": "needs_user"}),
            "ask",
            "needs_user",
        ),
        (json!({"type": "else"}), "deny", "not_allowed"),
    ] {
        let reply = get(bench.http, "public.example");
        let answer = async {
            let question = bench.client.next().await;
            bench.client.answer(&question, decision.clone());
            let notice = bench.client.next().await;
            assert_eq!(notice["params"]["decision"], kind);
            assert_eq!(notice["params"]["policyOverride"], false);
        };
        let (reply, ()) = tokio::join!(reply, answer);
        let body = reply.json();
        assert_eq!(
            (&body["decision"], &body["reason"]),
            (&json!(kind), &json!(reason))
        );
        assert_eq!(body["source"], "decider");
    }
}
