//! What the benchmarks of the parts do. Exists with the feature `bench` only.
//!
//! A work is its name, the bytes that one run moves, and the run. Criterion times the works
//! (`benches/relay.rs`), and the test command counts their instructions (the crate `counts`). All of
//! a work's inputs are made before its first run, and every run does the same.
//!
//! | works | part |
//! |---|---|
//! | `seal`, `open` | one record |
//! | `frame` | the frame around it, both ways; a router's look at it |
//! | `order` | records of one direction as they arrive |
//! | `segments` | messages to plaintexts of records and back |
//! | `stream` | all of it: a message from one connection's end to the other's |
//! | `handshake` | until both ends may send |

mod parts;
mod stream;

/// One work, ready to be run any number of times.
pub type Work = Box<dyn FnMut()>;

/// Makes the works, one after another, and hands each to `take`: its name, the bytes that one run
/// moves, and the work itself.
pub fn each(mut take: impl FnMut(&'static str, usize, Work)) {
    take("seal/256", SMALL, parts::seal(SMALL));
    take("seal/61440", LARGE, parts::seal(LARGE));
    take("open/256", SMALL, parts::open(SMALL));
    take("open/61440", LARGE, parts::open(LARGE));
    take("frame/encode/256", SMALL, parts::encode_frame(SMALL));
    take("frame/begin/61440", LARGE, parts::begin_frame(LARGE));
    take("frame/decode/256", SMALL, parts::decode_frame(SMALL));
    take("frame/decode/61440", LARGE, parts::decode_frame(LARGE));
    take("frame/peek/256", SMALL, parts::peek_frame(SMALL));
    take("order/in-turn", SMALL * parts::RECORDS, parts::in_turn());
    take("order/mixed-up", SMALL * parts::RECORDS, parts::mixed_up());
    take("segments/cut/1048576", MESSAGE, parts::cut(MESSAGE, 1));
    take("segments/cut/256x64", 64 * 256, parts::cut(64, 256));
    take("segments/join/1048576", MESSAGE, parts::join(MESSAGE, 1));
    take("segments/join/256x64", 64 * 256, parts::join(64, 256));
    take("stream/1048576", MESSAGE, stream::message(MESSAGE, 1));
    take("stream/64x256", 64 * SMALL, stream::message(SMALL, 64));
    take("handshake", 0, stream::handshake());
}

/// A short answer.
const SMALL: usize = 256;

/// The largest record.
const LARGE: usize = crate::limits::RECORD_PLAINTEXT_BYTES;

/// The largest chunk of output, about.
const MESSAGE: usize = 1 << 20;
