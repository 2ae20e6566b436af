//! The protocol between gateways, workers and registers, without any I/O: frames, the two ends of a lane, the
//! directory, the fan-out of queries, and the worker's side of a deployment. Everything is a plain state machine: bytes
//! and time come in as arguments.
//!
//! ```text
//!  gateway                                lane                                worker
//!  EventLane  -- events, sessions, answers, acks ----------------------->   SlotLane
//!             <-- parts: commands; done, release, credit, queries -------
//!
//!  gateway                            command lane                            pusher
//!  CommandLane <-- commands, queries of an app, from outside of plugins --   PushLane
//!              --- what became of each, in order ---------------------->
//! ```

mod codec;
pub mod command_lane;
pub mod control;
pub mod directory;
pub mod event_lane;
pub mod fanout;
pub mod frame;
pub mod question;
pub mod report;
pub mod request;
pub mod rollout;
pub mod slot_lane;

pub use codec::{Carry, ToGateway, ToWorker, encode};
pub use command_lane::{CommandLane, PushLane};
pub use event_lane::{EventLane, Unfinished};
pub use frame::{EventNo, FrameError, PartFlags, PartHead, RawFrame};
pub use rollout::{Do, Rollout};
pub use slot_lane::{Grant, SessionView, SlotLane};
