//! What stays resident of freed memory. A program of its own, because the allocator belongs to the whole
//! process, and has to be told before there is a second thread.

#![expect(clippy::print_stdout, reason = "how a test runner is answered")]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::hint::black_box;
use std::thread;

fn main() {
    let asked = |option: &str| std::env::args().any(|argument| argument == option);
    if asked("--list") {
        if !asked("--ignored") {
            println!("freed_memory_is_kept_while_it_is_little_and_given_back_on_demand: test");
        }
        return;
    }
    if cfg!(target_env = "gnu") {
        freed_memory_is_kept_while_it_is_little_and_given_back_on_demand();
    }
}

fn freed_memory_is_kept_while_it_is_little_and_given_back_on_demand() {
    allocator::keep_freed();
    allocator::share_heap();
    in_thread(|| fill_and_free(1 << 20));
    allocator::give_back();
    let before = resident();
    let more = || resident().saturating_sub(before) >> 20;

    in_thread(|| fill_and_free(6 << 20));
    assert!((5..=7).contains(&more()), "{} MiB kept", more());
    // It is used again, by another thread too.
    in_thread(|| fill_and_free(6 << 20));
    assert!((5..=7).contains(&more()), "{} MiB kept", more());
    allocator::give_back();
    assert_eq!(more(), 0, "MiB not given back");
    in_thread(|| fill_and_free(64 << 20));
    assert!(more() <= 8, "{} MiB kept", more());
}

fn in_thread(work: impl FnOnce() + Send + 'static) {
    thread::spawn(work).join().unwrap();
}

fn fill_and_free(bytes: usize) {
    black_box(vec![1_u8; bytes]);
}

/// Bytes, exactly: other counters of the kernel are summed up from processor to processor.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}
