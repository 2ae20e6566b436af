//! One test per promise to users.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod broken;
mod callbacks;
mod closing;
mod examples;
mod listeners;
mod processes;
mod support;
