//! Counts what this process asks of its allocator, in builds with the feature `count-allocations`
//! (`tests/bench/PROFILES.md`).
//!
//! Each request adds to two counters that all threads share, which costs some nanoseconds: nothing
//! else is measured with such a build.

use metrics::{Unit, counter, describe_counter};
use mimalloc::MiMalloc;
use std::{
    alloc::{GlobalAlloc, Layout},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Global, as the allocator itself is.
static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

const COUNT_NAME: &str = "handoff_allocations_total";
const BYTES_NAME: &str = "handoff_allocated_bytes_total";

/// The relay's allocator, with counters.
pub struct CountingAllocator;

fn count(bytes: usize) {
    COUNT.fetch_add(1, Relaxed);
    BYTES.fetch_add(bytes as u64, Relaxed);
}

// SAFETY: everything is handed on as it came to an allocator that keeps the contract; the counters
// allocate nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size.saturating_sub(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}

/// Says what the counters are.
pub(crate) fn describe() {
    describe_counter!(
        COUNT_NAME,
        Unit::Count,
        "Blocks that were asked of the allocator; a block that grows counts again"
    );
    describe_counter!(
        BYTES_NAME,
        Unit::Bytes,
        "Bytes of the blocks that were asked of the allocator, and by which blocks grew"
    );
}

/// Shows the counters as they are now.
pub(crate) fn observe() {
    counter!(COUNT_NAME).absolute(COUNT.load(Relaxed));
    counter!(BYTES_NAME).absolute(BYTES.load(Relaxed));
}
