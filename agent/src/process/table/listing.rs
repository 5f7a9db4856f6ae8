//! `process/list`: the processes of the session, a page at a time.

use exec_proto::RpcError;
use exec_proto::process::{
    ListParams, ListResult, ListedProcess, MAX_LISTED, MAX_PROGRAM_BYTES, ProcessState,
};

use super::{Entry, ProcessTable};
use crate::process::Facts;

/// Bytes of ids and programs in one answer; the first process always comes. JSON may make six bytes
/// of one, and the answer still is far below what a message may hold.
const MAX_PAGE_BYTES: usize = 256 << 10;

impl ProcessTable {
    /// `process/list`.
    pub(crate) fn list(&self, params: &ListParams) -> Result<ListResult, RpcError> {
        let limit = params.limit.unwrap_or(MAX_LISTED);
        if !(1..=MAX_LISTED).contains(&limit) {
            return Err(RpcError::invalid_params(format!(
                "limit must be between 1 and {MAX_LISTED}"
            )));
        }
        let after = params.after.as_deref();
        let entries = self.entries();
        let mut found: Vec<_> = entries
            .by_id
            .iter()
            .filter(|(id, _)| after.is_none_or(|after| id.as_str() > after))
            .collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        let mut bytes = 0;
        let processes: Vec<_> = found
            .iter()
            .map(|(id, entry)| entry.listed(id))
            .take(limit)
            .enumerate()
            .take_while(|(index, process)| {
                bytes += process.process_id.len() + process.program.len();
                *index == 0 || bytes <= MAX_PAGE_BYTES
            })
            .map(|(_, process)| process)
            .collect();
        let next = match processes.last() {
            Some(last) if processes.len() < found.len() => Some(last.process_id.clone()),
            _ => None,
        };
        Ok(ListResult { processes, next })
    }
}

impl Entry {
    fn listed(&self, id: &str) -> ListedProcess {
        let listed = |facts: &Facts, state, exit_code, next_seq| ListedProcess {
            process_id: id.to_owned(),
            program: facts.program.clone(),
            state,
            exit_code,
            tty: facts.tty,
            started_at_ms: facts.started_at_ms,
            next_seq,
        };
        match self {
            Self::Starting(facts, _) => listed(facts, ProcessState::Starting, None, 1),
            Self::Started(process) => {
                let (state, exit_code, next_seq) = process.log(|log| log.progress());
                listed(&process.facts, state, exit_code, next_seq)
            }
        }
    }
}

/// The beginning of `argv[0]`, whole characters, as far as it is told.
pub(in crate::process) fn program(argv: &[String]) -> String {
    let full = argv.first().map_or("", String::as_str);
    full.get(..full.floor_char_boundary(MAX_PROGRAM_BYTES))
        .unwrap_or_default()
        .to_owned()
}
