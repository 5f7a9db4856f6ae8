//! What the programs tell the allocator of the C library: how much of the memory that was freed it
//! keeps, and when it gives that back.
//!
//! Left alone, glibc returns the end of a heap to the system whenever 128 KiB of it are free, and maps
//! larger blocks one by one. Programs that move data through buffers of 64 KiB to 1 MiB, freed as soon
//! as they are sent, then get fresh pages for each of them, which the kernel has to clear: a tenth of
//! all their time. So some is kept, and a program that comes to rest gives it back with
//! [`give_back`].
//!
//! Only glibc needs it; elsewhere both functions do nothing.

#![cfg_attr(
    target_env = "gnu",
    expect(
        unsafe_code,
        reason = "the C library's allocator has no safe interface"
    )
)]

/// Has the allocator keep up to [`KEPT_BYTES`] of freed memory at the end of each heap.
///
/// For a program's `main`, before its threads begin. Libraries leave that to the program.
pub fn keep_freed() {
    #[cfg(target_env = "gnu")]
    for parameter in [libc::M_TRIM_THRESHOLD, libc::M_MMAP_THRESHOLD] {
        // JUSTIFICATION: no safe interface exists.
        // SAFETY: sets a number in the allocator, under its own lock. What it refuses stays as it was.
        unsafe { libc::mallopt(parameter, KEPT_BYTES) };
    }
}

/// Gives all memory that was freed back to the system.
///
/// Takes less than a millisecond for some megabytes.
pub fn give_back() {
    // JUSTIFICATION: no safe interface exists.
    // SAFETY: touches nothing but memory that the allocator holds and nobody uses.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A few of the largest messages in common use, blocks of files of 1 MiB. Also the least that is mapped
/// by itself, so that what is larger is given back at once.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 8 << 20;

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    fn fill_and_free(bytes: usize) {
        std::hint::black_box(vec![1_u8; bytes]);
    }

    /// In one test, because the allocator and what is resident belong to the process.
    #[test]
    fn some_is_kept_what_is_large_is_not_and_the_rest_comes_back_on_demand() {
        keep_freed();
        give_back();
        let before = resident();
        fill_and_free(6 << 20);
        let kept = resident().saturating_sub(before);
        assert!(kept >= 5 << 20, "{kept}");
        give_back();
        let kept = resident().saturating_sub(before);
        assert!(kept <= 1 << 20, "{kept}");
        fill_and_free(32 << 20);
        let kept = resident().saturating_sub(before);
        assert!(kept <= 1 << 20, "{kept}");
    }
}
