//! Threads, each with a current_thread runtime: what arrives together on one is handled and written together.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A set of threads. Dropping it tells them to end and does not wait.
#[derive(Debug)]
pub(crate) struct Shards {
    threads: Vec<Shard>,
}

#[derive(Debug)]
struct Shard {
    handle: Handle,
    /// Dropped to end it.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Shards {
    /// Starts `count` threads, named `<name>-<number>`.
    ///
    /// # Errors
    /// The system has no more threads or descriptors.
    pub fn start(name: &str, count: usize) -> io::Result<Self> {
        let mut shards = Self { threads: Vec::new() };
        for number in 0..count {
            shards.threads.push(Shard::start(format!("{name}-{number}"))?);
        }
        Ok(shards)
    }

    /// Where their tasks are spawned.
    pub fn handles(&self) -> Vec<Handle> {
        self.threads.iter().map(|shard| shard.handle.clone()).collect()
    }

    /// Ends the threads and waits for them. Blocks.
    pub fn join(mut self) {
        self.threads.iter_mut().for_each(|shard| drop(shard.stop.take()));
        for shard in &mut self.threads {
            if let Some(thread) = shard.thread.take()
                && thread.join().is_err()
            {
                tracing::error!("a shard's thread panicked");
            }
        }
    }
}

impl Shard {
    fn start(name: String) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            // Both ways of ending mean the same: the sender is never used.
            let _ = runtime.block_on(stopped);
            // Blocking work, such as a file that is being served, must not hold up the end.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name(name).spawn(run)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_is_one_named_thread_that_ends_when_told() {
        let shards = Shards::start("test", 2).unwrap();
        let name = async || std::thread::current().name().map(str::to_owned);
        let handles = shards.handles();
        let waiter = Builder::new_current_thread().build().unwrap();
        for (number, handle) in handles.iter().enumerate() {
            for _ in 0..2 {
                let ran = waiter.block_on(handle.spawn(async move { name().await })).unwrap();
                assert_eq!(ran, Some(format!("test-{number}")));
            }
        }
        let endless = handles[0].spawn(std::future::pending::<()>());
        shards.join();
        assert!(waiter.block_on(endless).unwrap_err().is_cancelled());
    }
}
