//! One test per promise to users.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod api;
mod apps;
mod audience;
mod binary;
mod broken;
mod callbacks;
mod clients;
mod closing;
mod density;
mod deployments;
mod examples;
mod failing;
mod fairness;
mod fake_gateway;
mod fake_worker;
mod hostile;
mod isolation;
mod listeners;
mod many;
mod metrics;
mod mixed;
mod order;
mod ports;
mod processes;
mod push;
mod rates;
mod sessions;
mod slow;
mod support;
mod swap;
mod tenants;
mod trust;
mod turns;
mod worker_apps;
mod workers;
