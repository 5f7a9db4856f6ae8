//! Whether a confined program failed because of its sandbox.
//!
//! The kernel tells of refused system calls: by the end by SIGSYS, and by [`notices`](super::notices) of
//! what a program needs permission for, like sockets without network. A refused file operation is an
//! error code like any other, which only the program knows; Landlock's audit records are for the
//! superuser. So for the rest there are the words that programs print for those error codes. Unlike
//! in the reference, words that name sandboxes are not among them, because nothing here prints them: a
//! sandbox that could not be set up is a failed start.

use exec_proto::process::{Chunk, Stream};

/// Whether the exit code, what the kernel told and the retained output look like it.
pub(crate) fn is_likely<'a>(
    exit_code: i32,
    noticed: bool,
    output: impl Iterator<Item = &'a Chunk> + Clone,
) -> bool {
    if exit_code == 0 {
        return false;
    }
    noticed
        || exit_code == KILLED_BY_FILTER
        || [Stream::Stdout, Stream::Stderr, Stream::Pty]
            .iter()
            .any(|stream| {
                let text: Vec<u8> = output
                    .clone()
                    .filter(|chunk| chunk.stream == *stream)
                    .flat_map(|chunk| chunk.chunk.iter().map(u8::to_ascii_lowercase))
                    .collect();
                mentions_refusal(&text)
            })
}

fn mentions_refusal(text: &[u8]) -> bool {
    REFUSALS.iter().any(|words| {
        text.windows(words.len())
            .any(|window| window == words.as_bytes())
    })
}

/// 128 and SIGSYS.
const KILLED_BY_FILTER: i32 = 159;

/// EPERM, EACCES, EROFS; EBUSY of names that are kept; what the reference's patch program says.
const REFUSALS: [&str; 5] = [
    "operation not permitted",
    "permission denied",
    "read-only file system",
    "device or resource busy",
    "failed to write file",
];

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn words_count_only_for_failed_programs_and_within_a_stream() {
        let chunk = |stream, text: &'static str| Chunk {
            seq: 1,
            stream,
            chunk: Bytes::from_static(text.as_bytes()),
        };
        let split = [
            chunk(Stream::Stderr, "x: Permission"),
            chunk(Stream::Stdout, "noise"),
            chunk(Stream::Stderr, " denied\n"),
        ];
        let harmless = [chunk(Stream::Stdout, "a castle of sandbox\n")];
        for (code, output, expected) in [
            (1, &split[..], true),
            (0, &split[..], false),
            (127, &split[..], true),
            (1, &split[..2], false),
            (1, &harmless[..], false),
            (159, &harmless[..], true),
            (159, &[], true),
            (1, &[], false),
        ] {
            assert_eq!(
                is_likely(code, false, output.iter()),
                expected,
                "{code} {output:?}"
            );
        }
        assert!(is_likely(1, true, harmless.iter()));
        assert!(!is_likely(0, true, harmless.iter()));
    }
}
