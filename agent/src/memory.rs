//! What an idle executor keeps resident.
//!
//! Much of it is program text that only the start needed, or the beginning of a stream: settings,
//! certificates, handshakes. The kernel would take it back when memory is short; it is given back as soon
//! as the executor has come to rest, so that hundreds of executors on a machine do not look as if each
//! needed it. The same goes for what the allocator keeps of memory that was freed.

#![expect(
    unsafe_code,
    reason = "advice about memory has no safe interface, since it could lose data elsewhere"
)]

use std::ops::Range;
use std::time::Duration;

use rustix::mm::{Advice, madvise};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// There is one allocator.
static STIRRED: Notify = Notify::const_new();

/// Says that a connection has begun or ended.
pub(crate) fn stir() {
    STIRRED.notify_one();
}

/// Gives back what is not needed, once after the start, and whenever connections have begun or ended
/// and none has for a while. Programs do not count: whoever starts one after another waits for each.
pub(crate) async fn settle() {
    sleep(REST).await;
    loop {
        // Each well below a millisecond. Text that is needed again comes from the file, which is in the
        // system's cache.
        give_back_text();
        allocator::give_back();
        STIRRED.notified().await;
        while timeout(REST, STIRRED.notified()).await.is_ok() {}
    }
}

fn give_back_text() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return;
    };
    let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    for Range { start, end } in texts(&maps, &own.to_string_lossy()) {
        let start = std::ptr::with_exposed_provenance_mut(start);
        // JUSTIFICATION: the standard library gives no advice about memory.
        // SAFETY: the range is mapped from this program's file, privately, and cannot be written, so
        // its pages are those of the file and come back from there with the same content.
        let _ = unsafe { madvise(start, end - start.addr(), Advice::LinuxDontNeed) };
    }
}

/// Where the text of the program is. Nothing that could ever have been written to: data that is only
/// read once it has been relocated is no text.
fn texts(maps: &str, program: &str) -> Vec<Range<usize>> {
    let text = |line: &str| {
        let mut words = line.splitn(6, ' ');
        let (range, access) = (words.next()?, words.next()?);
        let is_text = access == "r-xp" && words.nth(3)?.trim_start() == program;
        let (start, end) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        is_text.then_some(number(start)?..number(end)?)
    };
    maps.lines().filter_map(text).collect()
}

/// How long nothing begins or ends before the executor is taken to be at rest.
const REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_of_the_program_itself_is_given_back() {
        let maps = "\
55e0-55f0 r--p 00000000 fe:00 5317016                    /opt/exec server
55f0-5600 r-xp 002ba000 fe:00 5317016                    /opt/exec server
5600-5610 r--p 00af1000 fe:00 5317016                    /opt/exec server
5610-5620 rw-p 00af1000 fe:00 5317016                    /opt/exec server
7f30-7f40 r-xp 00026000 fe:00 326279                     /usr/lib/libc.so.6
7f50-7f60 r-xp 00000000 00:00 0                          [vdso]
7f70-7f80 rw-p 00000000 00:00 0 
nonsense
";
        let [text] = texts(maps, "/opt/exec server").try_into().unwrap();
        assert_eq!(text, 0x55f0..0x5600);
        assert!(texts(maps, "/opt/exec").is_empty());
    }

    #[cfg(target_env = "gnu")]
    #[tokio::test(start_paused = true)]
    async fn what_was_freed_is_given_back_when_nothing_stirs() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
            pages * 4096
        };
        let settling = tokio::spawn(settle());
        sleep(2 * REST).await;
        // Small enough to come from the heap; every other one stays, so that none is at its end.
        let blocks: Vec<Vec<u8>> = (0..4096).map(|_| vec![1; 16 << 10]).collect();
        let kept: Vec<_> = blocks.into_iter().step_by(2).collect();
        let before = resident();
        stir();
        sleep(2 * REST).await;
        let after = resident();
        // Half of 64 MiB was freed, of which whole pages are given back.
        assert!(
            after + (16 << 20) < before,
            "{before} before, {after} after"
        );
        drop(kept);
        settling.abort();
    }

    #[test]
    fn the_program_goes_on_with_less() {
        let own = std::env::current_exe().unwrap();
        let own = own.to_str().unwrap();
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut lines = text
                .lines()
                .skip_while(|line| !(line.contains("r-xp") && line.ends_with(own)));
            let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
            rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        // As a start that needs all of it.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        for Range { start, end } in texts(&maps, own) {
            let start = std::ptr::with_exposed_provenance_mut(start);
            // SAFETY: reads what is mapped.
            unsafe { madvise(start, end - start.addr(), Advice::LinuxPopulateRead) }.unwrap();
        }
        let before = resident();
        give_back_text();
        let after = resident();
        assert!(after < before / 2, "{before} kB before, {after} kB after");
    }
}
