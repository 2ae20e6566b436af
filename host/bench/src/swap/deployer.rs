//! The thread that deploys and weighs, so that the load never waits for either.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use crate::fleet::Clock;
use crate::procs::{MemorySample, Probe};
use crate::{Error, Result};

/// What a deployment says when it is done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deployed {
    /// The word with which the new code answers: 1 to 64 bytes without a space, another one than before the swap.
    pub version: String,
    /// How long the slot that paused longest did, in microseconds, as the platform says. None: no slot switched.
    pub pause_us: Option<u64>,
    /// Bytes of state that all slots handed over.
    pub state_bytes: u64,
    /// What the platform itself says of the swap; it goes into the report as it is.
    pub report: Option<serde_json::Value>,
}

/// The other end of the thread. One order at a time: the next only after the answer to the one before.
#[derive(Debug)]
pub(super) struct Deployer {
    orders: SyncSender<Order>,
    replies: Receiver<Reply>,
}

#[derive(Debug)]
enum Order {
    /// The n-th swap.
    Deploy(u32),
    Weigh,
}

/// What the thread answers.
#[derive(Debug)]
pub(super) enum Reply {
    /// The deployment returned.
    Deployed {
        /// When, on the clock of the run.
        at: u64,
        result: Result<Deployed, String>,
    },
    Weighed(Result<Option<MemorySample>>),
    /// The thread is gone: the callback panicked.
    Gone,
}

impl Deployer {
    /// Starts the thread. It ends when this is dropped and `deploy` returns; a deployment that never does is left behind.
    pub(super) fn start(
        mut deploy: impl FnMut(u32) -> Result<Deployed, String> + Send + 'static,
        probe: Probe,
        clock: Clock,
    ) -> Result<Deployer> {
        let (orders, inbox) = sync_channel::<Order>(1);
        let (outbox, replies) = sync_channel(1);
        let work = move || {
            for order in inbox {
                let reply = match order {
                    Order::Deploy(number) => {
                        let result = deploy(number);
                        Reply::Deployed { at: clock.now(), result }
                    }
                    Order::Weigh => Reply::Weighed(probe.memory()),
                };
                if outbox.send(reply).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("bench-deploy".to_owned());
        thread.spawn(work).map_err(Error::io("starting the thread that deploys"))?;
        Ok(Deployer { orders, replies })
    }

    pub(super) fn deploy(&self, number: u32) {
        // Without a thread there is no answer either, which says it.
        let _ = self.orders.try_send(Order::Deploy(number));
    }

    pub(super) fn weigh(&self) {
        let _ = self.orders.try_send(Order::Weigh);
    }

    /// The answer, if there is one by now.
    pub(super) fn reply(&self) -> Option<Reply> {
        match self.replies.try_recv() {
            Ok(reply) => Some(reply),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Reply::Gone),
        }
    }
}
