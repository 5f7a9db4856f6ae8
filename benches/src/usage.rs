//! What a process has used, as the system counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Of one process, without its children.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Bytes resident now.
    pub(crate) resident: u64,
    /// Most bytes that were resident at any time.
    pub(crate) peak: u64,
    /// Processor time, of all threads.
    pub(crate) processor: Duration,
}

impl Usage {
    /// Of another process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        Self::read(&pid.to_string())
    }

    /// Of this one.
    pub(crate) fn own() -> Result<Self> {
        Self::read("self")
    }

    fn read(process: &str) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        Ok(Self {
            resident: kibibytes(&status, "VmRSS:")? * 1024,
            peak: kibibytes(&status, "VmHWM:")? * 1024,
            processor: processor(&stat).context("the times of a process")?,
        })
    }
}

fn kibibytes(status: &str, field: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {field} of a process"))
}

/// Fields 14 and 15, after the name, which may hold anything.
fn processor(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    // The kernel shows hundredths whatever it counts in.
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14";
        assert_eq!(processor(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn this_process_uses_something() {
        let own = Usage::own().unwrap();
        assert!(own.resident > 0 && own.peak >= own.resident);
    }
}
