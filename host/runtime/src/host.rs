use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate_base::{Addresses, Answered, Capability, Command, KeyAnswer, KeyError, KeyOp, KeyValue, Query};

/// What a plugin asks for, as the runtime hands it to the worker. One value per instance.
///
/// Methods are called one at a time, on the thread that runs the turn at that moment: the shard's, or a thread of the
/// [`SlowPool`](crate::SlowPool) if the turn has moved there. `query` alone is always called on the shard. None of
/// them may block or panic.
pub trait PluginHost: Send + 'static {
    /// One command of the turn. It borrows from wasm memory; the host checks it and, if it breaks a rule, records that
    /// the turn has failed, and tells it by [`broken_rule`](Self::broken_rule).
    fn command(&mut self, command: Command<'_>);

    /// A question to the gateways: a commit point. Names and list lengths are checked already. The variant of the
    /// answer must be the one that the query asks for.
    fn query(&mut self, query: Query) -> Pin<Box<dyn Future<Output = Answered> + Send>>;

    /// The turn fails: what has not left is dropped when the callback returns. The reason has at most
    /// [`FAIL_REASON_BYTES_MAX`](tidegate_base::limits::FAIL_REASON_BYTES_MAX) bytes.
    fn fail(&mut self, reason: &str);

    /// The turn fails because it broke a rule that the runtime checks: as for one that the host checks itself.
    fn break_rule(&mut self, reason: &str) {
        self.fail(reason);
    }

    /// Why the running turn has failed, if that is because it broke a rule and not by its own word. A turn that runs on
    /// and on after it is stopped. Asked for at ticks of the engine.
    fn broken_rule(&self) -> Option<&str> {
        None
    }

    /// Where the current client's connection ends; none in a turn without a client.
    fn addresses(&self) -> Option<Addresses>;

    /// The current client's session with this turn's own writes.
    fn session(&mut self) -> Option<&str>;

    /// Set a timer when the turn ends well. The key and the period are checked already; the host bounds their number.
    fn set_timer(&mut self, key: &str, after: Duration, every: Option<Duration>);

    /// Cancel a timer when the turn ends well.
    fn cancel_timer(&mut self, key: &str);

    /// A line for the app's log, at most [`LOG_LINE_BYTES_MAX`](tidegate_base::limits::LOG_LINE_BYTES_MAX) bytes.
    /// What the plugin prints arrives here too: stdout as info, stderr as warn.
    fn log(&mut self, level: LogLevel, line: &str);

    /// One of the app's settings.
    fn setting(&self, key: &str) -> Option<&str>;

    /// All of the app's settings in order of key.
    fn settings(&self) -> Vec<(String, String)>;

    /// Whether the app is granted this now.
    fn is_granted(&self, _: Capability) -> bool {
        false
    }

    /// Whether the app is granted the bucket of this name now.
    fn has_bucket(&self, _: &str) -> bool {
        false
    }

    /// A bucket that the app is granted.
    ///
    /// # Errors
    /// It is not.
    fn bucket(&self, name: &str) -> Result<Arc<dyn KeyBucket>, KeyError> {
        Err(KeyError::NoSuchBucket { bucket: name.to_owned() })
    }

    /// The environment variables that an instance starts with.
    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// A bucket of an app's keys that a plugin has opened. Whether it is still granted is looked at before every call.
pub trait KeyBucket: Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &str;

    /// A key's value, or that it has none, if that is at hand; never waits.
    fn peek(&self, key: &str) -> Option<Option<KeyValue>>;

    /// Asks, or changes something; the form of `op` is checked already. The variant of the answer must be the one that the
    /// op asks for. Dropping the future takes no change back.
    fn ask(&self, op: KeyOp) -> Pin<Box<dyn Future<Output = Result<KeyAnswer, KeyError>> + Send>>;
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Data was lost or somebody must act.
    Error,
    /// Something is wrong but handled.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}
