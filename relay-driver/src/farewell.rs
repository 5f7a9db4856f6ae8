//! What a rendezvous says when it closes a websocket.
//!
//! One that is about to stop closes with code 1001 and a reason such as
//! `shutting_down; retry-after-ms=500`: its peers should come back after that time, and find another one or
//! the same one again. Ends of release 0.169 look neither at the code nor at the reason.

use std::time::Duration;

use relay_proto::limits::{GOING_AWAY_LONGEST, GOING_AWAY_RETRY};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::handles::DisconnectReason;

/// Why the peer closed.
pub(crate) fn reason(frame: Option<&CloseFrame>) -> DisconnectReason {
    frame
        .filter(|frame| frame.code == CloseCode::Away)
        .and_then(|frame| retry_after(&frame.reason))
        .map_or(DisconnectReason::PeerClose, |retry_after| {
            DisconnectReason::SentAway { retry_after }
        })
}

fn retry_after(reason: &str) -> Option<Duration> {
    let (_, rest) = reason.split_once(GOING_AWAY_RETRY)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (millis, _) = rest.split_at(digits);
    if millis.is_empty() {
        return None;
    }
    // More digits than fit are more than the longest wait.
    let asked = millis
        .parse()
        .map_or(GOING_AWAY_LONGEST, Duration::from_millis);
    Some(asked.min(GOING_AWAY_LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(code: CloseCode, text: &str) -> DisconnectReason {
        reason(Some(&CloseFrame {
            code,
            reason: text.into(),
        }))
    }

    #[test]
    fn the_time_to_come_back_is_read_from_a_going_away() {
        for (text, millis) in [
            ("shutting_down; retry-after-ms=500", 500),
            ("anything else; retry-after-ms=0", 0),
            ("; retry-after-ms=1500; more=1", 1_500),
            ("; retry-after-ms=3600000", 60_000),
            ("; retry-after-ms=99999999999999999999999", 60_000),
        ] {
            let retry_after = Duration::from_millis(millis);
            assert_eq!(
                close(CloseCode::Away, text),
                DisconnectReason::SentAway { retry_after },
                "{text}"
            );
        }
    }

    #[test]
    fn anything_else_is_a_close_like_any_other() {
        for (code, text) in [
            (CloseCode::Away, ""),
            (CloseCode::Away, "shutting_down"),
            (CloseCode::Away, "; retry-after-ms="),
            (CloseCode::Away, "; retry-after-ms=-1"),
            (CloseCode::Normal, "; retry-after-ms=500"),
        ] {
            assert_eq!(close(code, text), DisconnectReason::PeerClose, "{text}");
        }
        assert_eq!(reason(None), DisconnectReason::PeerClose);
    }
}
