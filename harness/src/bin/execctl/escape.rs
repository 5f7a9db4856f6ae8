//! `Enter ~ .` leaves an interactive session, as with ssh, also when the connection hangs.

/// Looks for the escape in what is typed.
#[derive(Debug)]
pub(crate) struct Escape {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    Tilde,
    Line,
}

/// What to do with typed bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Send these.
    Send(Vec<u8>),
    /// Leave.
    Leave,
}

impl Escape {
    pub(crate) fn new() -> Self {
        Self {
            state: State::LineStart,
        }
    }

    /// Takes typed bytes. A tilde at the start of a line is held back until the next byte; `~~`
    /// sends one tilde.
    pub(crate) fn take(&mut self, typed: &[u8]) -> Typed {
        let mut send = Vec::with_capacity(typed.len() + 1);
        for byte in typed {
            match (self.state, byte) {
                (State::LineStart, b'~') => self.state = State::Tilde,
                (State::Tilde, b'.') => return Typed::Leave,
                (state, byte) => {
                    if state == State::Tilde && *byte != b'~' {
                        send.push(b'~');
                    }
                    send.push(*byte);
                    let line_ended = matches!(byte, b'\r' | b'\n');
                    self.state = if line_ended {
                        State::LineStart
                    } else {
                        State::Line
                    };
                }
            }
        }
        Typed::Send(send)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&str]) -> (String, bool) {
        let mut escape = Escape::new();
        let mut sent = Vec::new();
        for piece in pieces {
            match escape.take(piece.as_bytes()) {
                Typed::Send(bytes) => sent.extend(bytes),
                Typed::Leave => return (String::from_utf8(sent).unwrap(), true),
            }
        }
        (String::from_utf8(sent).unwrap(), false)
    }

    #[test]
    fn escape_works_only_at_the_start_of_a_line() {
        for (pieces, sent, left) in [
            (&["~."][..], "", true),
            (&["ls\r~", "."], "ls\r", true),
            (&["a~."], "a~.", false),
            (&["~~."], "~.", false),
            (&["~", "x"], "~x", false),
            (&["~", "\r", "~."], "~\r", true),
            (&["cd ~\r"], "cd ~\r", false),
        ] {
            assert_eq!(all(pieces), (sent.to_owned(), left), "{pieces:?}");
        }
    }
}
