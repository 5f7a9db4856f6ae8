//! Makes the text output of a tool call comparable.
//!
//! Only what is random or a measured time is replaced: the chunk id and the wall time, each only
//! on the line of its own where the client puts it.

/// Replaces the chunk id by `<id>` and the wall time by `<time>`.
pub fn normalize(output: &str) -> String {
    let mut header = true;
    output
        .split_inclusive('\n')
        .map(|line| {
            let content = line.trim_end_matches('\n');
            // What follows this line is the command's own output.
            header &= content != "Output:";
            match content.split_once(": ") {
                Some(("Chunk ID", id)) if header && is_chunk_id(id) => {
                    "Chunk ID: <id>\n".to_owned()
                }
                Some(("Wall time", time)) if header && is_wall_time(time) => {
                    "Wall time: <time>\n".to_owned()
                }
                _ => line.to_owned(),
            }
        })
        .collect()
}

/// The session that a tool output says is still running.
pub fn session_id(output: &str) -> Option<u64> {
    let mut header = output.lines().take_while(|line| *line != "Output:");
    header
        .find_map(|line| line.strip_prefix("Process running with session ID "))?
        .parse()
        .ok()
}

fn is_chunk_id(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_wall_time(text: &str) -> bool {
    text.strip_suffix(" seconds")
        .is_some_and(|number| number.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Chunk ID: acf4d7\nWall time: 0.0412 seconds\n\
        Process exited with code 0\nOriginal token count: 2\nOutput:\nout\n";

    #[test]
    fn only_chunk_id_and_wall_time_are_replaced() {
        assert_eq!(
            normalize(OUTPUT),
            "Chunk ID: <id>\nWall time: <time>\nProcess exited with code 0\n\
             Original token count: 2\nOutput:\nout\n"
        );
    }

    #[test]
    fn output_of_the_command_is_left_alone() {
        let lookalike = "Output:\nChunk ID: acf4d7\nWall time: 1.0 seconds\n";
        assert_eq!(normalize(lookalike), lookalike);
    }

    #[test]
    fn session_id_comes_from_the_header_only() {
        let running = "Wall time: 1.0 seconds\nProcess running with session ID 10666\nOutput:\nx";
        assert_eq!(session_id(running), Some(10666));
        assert_eq!(
            session_id("Output:\nProcess running with session ID 1"),
            None
        );
        let fake = "Process exited with code 0\nOutput:\nProcess running with session ID 7\n";
        assert_eq!(session_id(fake), None);
    }
}
