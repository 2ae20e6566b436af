use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Threads with a current_thread runtime each, as a node has. They end when this is dropped.
#[derive(Debug)]
pub struct Shards {
    handles: Vec<Handle>,
    threads: Vec<Thread>,
}

/// Dropping the sender ends the thread.
type Thread = (Option<oneshot::Sender<()>>, Option<JoinHandle<()>>);

impl Shards {
    /// Starts `count` threads.
    pub fn start(name: &str, count: usize) -> Self {
        let mut shards = Self { handles: Vec::new(), threads: Vec::new() };
        for n in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            shards.handles.push(runtime.handle().clone());
            let (stop, stopped) = oneshot::channel::<()>();
            let run = move || {
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
            };
            let thread =
                std::thread::Builder::new().name(format!("{name}-{n}")).spawn(run).expect("a thread");
            shards.threads.push((Some(stop), Some(thread)));
        }
        shards
    }

    /// Their runtimes.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        for (stop, thread) in &mut self.threads {
            drop(stop.take());
            if let Some(thread) = thread.take() {
                // A shard that panicked has printed why.
                let _ = thread.join();
            }
        }
    }
}
