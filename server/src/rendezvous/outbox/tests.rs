use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;

fn outbox(bytes: usize, frames: usize, resets: usize) -> Outbox {
    Outbox::new(OutboxLimits {
        bytes,
        frames,
        resets,
        own: None,
    })
}

fn push(outbox: &Outbox, text: &'static str) {
    let reservation = outbox.try_reserve(text.len()).unwrap();
    outbox.push(Bytes::from_static(text.as_bytes()), reservation);
}

fn text(next: Option<Next>) -> String {
    match next {
        Some(Next::Frame(frame, _)) => String::from_utf8(frame.to_vec()).unwrap(),
        Some(Next::Ping) => "<ping>".to_owned(),
        Some(Next::Close(cause)) => format!("<close {cause:?}>"),
        None => "<nothing>".to_owned(),
    }
}

#[test]
fn entries_come_out_in_order_with_resets_among_them() {
    let outbox = outbox(100, 10, 10);
    push(&outbox, "one");
    outbox.push_reset(Bytes::from_static(b"reset")).unwrap();
    push(&outbox, "two");
    outbox.ping();
    for expected in ["<ping>", "one", "reset", "two", "<nothing>"] {
        assert_eq!(text(outbox.try_next()), expected);
    }
}

#[test]
fn room_is_bounded_in_bytes_and_in_frames() {
    let outbox = outbox(10, 2, 0);
    push(&outbox, "12345678");
    assert_eq!(outbox.try_reserve(3).err(), Some(Full));
    push(&outbox, "90");
    assert_eq!(outbox.try_reserve(0).err(), Some(Full));
    assert_eq!(text(outbox.try_next()), "12345678");
    assert!(outbox.try_reserve(8).is_ok());
}

#[test]
fn frame_above_the_byte_limit_fits_when_nothing_else_is_there() {
    let outbox = outbox(4, 2, 0);
    push(&outbox, "123456");
    assert_eq!(outbox.try_reserve(1).err(), Some(Full));
    drop(outbox.try_next());
    assert!(outbox.try_reserve(100).is_ok());
}

#[test]
fn resets_have_room_of_their_own() {
    let outbox = outbox(1, 1, 2);
    push(&outbox, "x");
    let reset = Bytes::from_static(b"reset");
    outbox.push_reset(reset.clone()).unwrap();
    outbox.push_reset(reset.clone()).unwrap();
    assert_eq!(outbox.push_reset(reset.clone()), Err(Full));
    drop(outbox.try_next());
    drop(outbox.try_next());
    assert_eq!(outbox.push_reset(reset), Ok(()));
}

#[test]
fn waiting_for_room_ends_when_a_frame_has_been_written() {
    let outbox = outbox(4, 4, 0);
    push(&outbox, "1234");
    let mut waiting = Box::pin(outbox.reserve(2));
    assert!((&mut waiting).now_or_never().is_none());
    let written = outbox.try_next();
    assert!(
        (&mut waiting).now_or_never().is_none(),
        "room before the frame is written"
    );
    drop(written);
    assert!(waiting.now_or_never().unwrap().is_ok());
}

#[test]
fn room_is_granted_in_turn() {
    let outbox = outbox(4, 4, 0);
    push(&outbox, "1234");
    let mut large = Box::pin(outbox.reserve(4));
    let mut small = Box::pin(outbox.reserve(1));
    assert!((&mut large).now_or_never().is_none());
    assert!((&mut small).now_or_never().is_none());
    drop(outbox.try_next());
    assert!(
        (&mut small).now_or_never().is_none(),
        "overtook the one before it"
    );
    let granted = (&mut large).now_or_never().unwrap().unwrap();
    assert!((&mut small).now_or_never().is_none());
    drop(granted);
    assert!(small.now_or_never().unwrap().is_ok());
}

#[test]
fn own_room_is_used_before_shared_room() {
    let shared = SharedRoom::new(6);
    let harness = || {
        Outbox::new(OutboxLimits {
            bytes: 100,
            frames: 100,
            resets: 0,
            own: Some((4, shared.clone())),
        })
    };
    let (greedy, modest) = (harness(), harness());
    push(&greedy, "1234");
    push(&greedy, "12");
    push(&greedy, "1234");
    // The shared room is used up. Who keeps up does not notice.
    assert_eq!(greedy.try_reserve(1).err(), Some(Full));
    push(&modest, "1234");
    assert_eq!(modest.try_reserve(1).err(), Some(Full));
    drop(modest.try_next());
    push(&modest, "12");
    // What the greedy one gives back is there for everybody.
    for _ in 0..3 {
        drop(greedy.try_next());
    }
    push(&modest, "1234");
}

#[test]
fn closing_drains_or_drops_what_is_queued() {
    let drained = outbox(100, 10, 0);
    push(&drained, "last words");
    drained.close(CloseCause::ExecutorGone);
    assert_eq!(text(drained.try_next()), "last words");
    assert_eq!(text(drained.try_next()), "<close ExecutorGone>");

    let dropped = outbox(100, 10, 0);
    push(&dropped, "too late");
    dropped.close(CloseCause::Unauthorized);
    assert_eq!(text(dropped.try_next()), "<close Unauthorized>");
    assert!(
        dropped.try_reserve(100).is_ok(),
        "dropped frames give their room back"
    );
}

#[test]
fn first_cause_counts() {
    let outbox = outbox(100, 10, 0);
    assert_eq!(outbox.close_cause(), None);
    assert!(outbox.closing().now_or_never().is_none());
    outbox.close(CloseCause::TooSlow);
    outbox.close(CloseCause::ShuttingDown {
        retry_after: Duration::ZERO,
    });
    assert_eq!(outbox.close_cause(), Some(CloseCause::TooSlow));
    assert!(outbox.closing().now_or_never().is_some());
}

#[tokio::test]
async fn waiting_writer_is_woken() {
    let outbox = Arc::new(outbox(100, 10, 10));
    let writer = tokio::spawn({
        let outbox = Arc::clone(&outbox);
        async move { text(Some(outbox.next().await)) }
    });
    tokio::task::yield_now().await;
    outbox.push_reset(Bytes::from_static(b"reset")).unwrap();
    let written = tokio::time::timeout(Duration::from_secs(5), writer)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(written, "reset");
}

#[test]
fn small_frames_do_not_keep_the_buffer_they_were_read_into() {
    let outbox = outbox(1 << 20, 10, 0);
    let buffer = Bytes::from(vec![7; 64 * 1024]);
    for (range, shares) in [(0..100, false), (100..20_000, true)] {
        let frame = buffer.slice(range);
        let start = frame.as_ptr();
        let reservation = outbox.try_reserve(frame.len()).unwrap();
        outbox.push(frame, reservation);
        let Some(Next::Frame(queued, _)) = outbox.try_next() else {
            panic!("nothing queued")
        };
        assert_eq!(queued.as_ptr() == start, shares);
    }
}
