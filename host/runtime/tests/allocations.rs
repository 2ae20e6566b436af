//! A turn costs the host no allocation.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use support::{Buffer, CLIENT, engine, module};
use tidegate_base::MessageKind;
use tidegate_runtime::{Instance, Limits, Template};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the engine itself allocates for each call on a stack of its own: one closure.
const OF_THE_ENGINE: u64 = 1;
const TURNS: u64 = 10_000;

// One test alone in its binary: the counter is the whole process's.
#[test]
fn a_turn_with_a_reply_allocates_nothing_of_ours() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let engine = engine();
    let template = Template::new(&engine, &module(&engine)).unwrap();
    let host = Buffer(Vec::with_capacity(1 << 20));
    let mut plugin = runtime.block_on(Instance::start(&template, host, Limits::default())).unwrap();
    let payload = [7; 64];
    let turns = |plugin: &mut Instance<Buffer>, n: u64| {
        runtime.block_on(async {
            for _ in 0..n {
                plugin.on_message(CLIENT, MessageKind::Binary, &payload).await.unwrap();
            }
        });
    };
    turns(&mut plugin, 100);
    plugin.host().0.clear();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    turns(&mut plugin, TURNS);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(plugin.host().0.len() as u64, 64 * TURNS);
    // A turn that is interrupted by a tick allocates a little; there may be some.
    assert!(
        (OF_THE_ENGINE * TURNS..OF_THE_ENGINE * TURNS + TURNS / 10).contains(&allocations),
        "{allocations}"
    );
}
