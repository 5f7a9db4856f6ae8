//! The byte stream of one direction, in any cut.

use bytes::Bytes;

use crate::segment::Reassembler;

/// Feeds a byte stream to two reassemblers, in one piece and in pieces, and compares.
///
/// The first byte is the length of the pieces.
///
/// # Panics
///
/// If the two disagree, or hold more than they were given.
pub fn segments(data: &[u8]) {
    let Some((piece_length, stream)) = data.split_first() else {
        return;
    };
    let mut whole = Vec::new();
    let mut reassembler = Reassembler::default();
    let whole_ended = reassembler.push(Bytes::copy_from_slice(stream), |it| whole.push(it));

    let mut pieces = Vec::new();
    let mut reassembler = Reassembler::default();
    let mut pieces_ended = Ok(());
    for piece in stream.chunks(usize::from(*piece_length).max(1)) {
        pieces_ended = reassembler.push(Bytes::copy_from_slice(piece), |it| pieces.push(it));
        if pieces_ended.is_err() {
            break;
        }
        assert!(reassembler.held_bytes() <= stream.len());
    }
    assert_eq!(whole_ended, pieces_ended);
    assert_eq!(whole, pieces);
    assert!(whole.iter().all(|message| !message.is_empty()));
}
