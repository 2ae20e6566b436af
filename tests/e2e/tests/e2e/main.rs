//! One test per promise to users.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod callbacks;
mod closing;
mod support;
mod examples;
mod processes;
