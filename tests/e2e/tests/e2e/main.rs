//! One test per promise to users.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod api;
mod audience;
mod broken;
mod callbacks;
mod closing;
mod examples;
mod isolation;
mod listeners;
mod order;
mod processes;
mod sessions;
mod support;
mod turns;
