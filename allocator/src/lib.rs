//! What the programs tell the allocator of the C library: how much of the memory that was freed it
//! keeps, and when it gives that back.
//!
//! Left alone, glibc returns the end of a heap to the system whenever 128 KiB of it are free, and maps
//! larger blocks one by one. Programs that move data through buffers of 64 KiB to 1 MiB, freed as soon
//! as they are sent, then get fresh pages for each of them, which the kernel has to clear: a tenth of
//! all their time. So some is kept, and a program that comes to rest gives it back with
//! [`give_back`].
//!
//! It also gives each thread a heap of its own, up to eight for each processor. What one thread allocates
//! and another one frees is then kept many times over, and only the first heap can be given back to its
//! end. Where a few threads do little but move buffers, they share it: [`share_heap`].
//!
//! Only glibc needs all that; elsewhere the functions do nothing.

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
    {
        set(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        set(libc::M_MMAP_THRESHOLD, KEPT_BYTES);
    }
}

/// Has all threads that begin from now on share the heap of the first one.
///
/// For a program whose threads allocate little at the same time.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    set(libc::M_ARENA_MAX, 1);
}

#[cfg(target_env = "gnu")]
fn set(parameter: libc::c_int, value: libc::c_int) {
    // JUSTIFICATION: no safe interface exists.
    // SAFETY: sets a number in the allocator, under its own lock. What it refuses stays as it was.
    unsafe { libc::mallopt(parameter, value) };
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
