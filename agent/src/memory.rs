//! What an idle executor keeps resident.
//!
//! Most of it is program text that only the start needed: settings, certificates, registration. The
//! kernel would take it back when memory is short; it is given back as soon as the executor has come to
//! rest, so that hundreds of executors on a machine do not look as if each needed it.

#![expect(
    unsafe_code,
    reason = "the advice has no safe interface, since it could lose data elsewhere"
)]

use std::ops::Range;
use std::time::Duration;

use rustix::mm::{Advice, madvise};

/// Gives back what the start needed, when it is over. What is needed again comes from the file, which
/// is in the system's cache.
pub(crate) async fn settle() {
    tokio::time::sleep(START).await;
    // Well below a millisecond.
    give_back_text();
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

/// How long a start may take; nothing depends on it.
const START: Duration = Duration::from_secs(1);

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
