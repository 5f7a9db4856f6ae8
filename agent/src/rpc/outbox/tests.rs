use std::time::Duration;

use super::*;

/// A connection whose transport takes one message at a time.
fn narrow() -> (Outbox, OutboxWriter, mpsc::Receiver<Bytes>) {
    let (outgoing, transport) = mpsc::channel(1);
    let (outbox, writer) = Outbox::new(outgoing, None);
    (outbox, writer, transport)
}

#[tokio::test(start_paused = true)]
async fn sender_waits_when_the_byte_budget_is_used_up() {
    let (outbox, writer, mut transport) = narrow();
    let writer = tokio::spawn(writer.run(CancellationToken::new()));
    let big = Bytes::from(vec![0; BUDGET_BYTES / 2]);
    let mut sent = 0;
    while tokio::time::timeout(
        Duration::from_secs(1),
        outbox.send(Lane::Ordinary, big.clone()),
    )
    .await
    .is_ok()
    {
        sent += 1;
        assert!(sent < 10, "the budget never ran out");
    }
    // One message lies in the transport without a share, two hold the whole budget.
    assert_eq!(sent, 3);
    transport.recv().await.unwrap();
    outbox.send(Lane::Ordinary, big).await.unwrap();
    writer.abort();
}

#[tokio::test]
async fn control_answers_overtake_a_wall_of_output() {
    let (outbox, writer, mut transport) = narrow();
    for _ in 0..20 {
        outbox
            .send(Lane::Ordinary, Bytes::from_static(b"output"))
            .await
            .unwrap();
    }
    outbox
        .send(Lane::Control, Bytes::from_static(b"answer"))
        .await
        .unwrap();
    let writer = tokio::spawn(writer.run(CancellationToken::new()));
    assert_eq!(transport.recv().await.unwrap(), "answer");
    assert_eq!(transport.recv().await.unwrap(), "output");
    writer.abort();
}

#[tokio::test]
async fn waiting_senders_give_up_when_the_transport_ends() {
    let (outbox, writer, transport) = narrow();
    let writer = tokio::spawn(writer.run(CancellationToken::new()));
    let big = Bytes::from(vec![0; BUDGET_BYTES]);
    // The first lies in the transport, the second is with the writer and has the whole budget.
    for _ in 0..2 {
        outbox.send(Lane::Ordinary, big.clone()).await.unwrap();
    }
    let waiting = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.send(Lane::Ordinary, big).await }
    });
    drop(transport);
    assert_eq!(waiting.await.unwrap(), Err(Disconnected));
    writer.await.unwrap();
    assert!(outbox.is_closed());
}

#[tokio::test]
async fn finishing_writer_delivers_what_is_queued() {
    let (outgoing, mut transport) = mpsc::channel(8);
    let (outbox, writer) = Outbox::new(outgoing, None);
    outbox.notify("a", &1).await.unwrap();
    outbox.notify("b", &2).await.unwrap();
    let finish = CancellationToken::new();
    finish.cancel();
    writer.run(finish).await;
    assert_eq!(
        transport.recv().await.unwrap(),
        r#"{"method":"a","params":1}"#
    );
    assert_eq!(
        transport.recv().await.unwrap(),
        r#"{"method":"b","params":2}"#
    );
    assert!(transport.recv().await.is_none());
}
