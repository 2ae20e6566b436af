//! A cluster in one thread, for tests of hot swaps: the real [`Deployments`] of a register and the real [`Rollout`]s of
//! workers, with everything between and around them made up from a seed.
//!
//! | real | simulated | not here |
//! | --- | --- | --- |
//! | `register::deployment::Deployments` | links: delay, order within a link, cuts noticed late on each side | gateways' lanes, credit, redelivery |
//! | `wire::rollout::Rollout` | the store: delay, a full disk, what is written survives the register | the store's own crash safety |
//! | the control messages, through their bytes | workers: processes that die and come back empty, links that come back | running guests |
//! | | slots: time to prepare and switch, failures of each step, traps | `save` and `restore` themselves |
//! | | gateways: counts, answers that never come | WebSocket clients |
//! | | registers that die, also while they write, and go on from the store | several registers |
//! | | operators: deploys, rollbacks, canaries, cancels, two deploys at once | |
//!
//! What holds after every step: both machines' own invariants; a slot has at most one instance that runs and one beside
//! it, and never becomes empty in its worker's life; no worker hears of a phase that is not written down, but for going
//! back; no slot runs a version whose switch was not written down; what is stable was committed.
//!
//! What holds when a deployment ends: committed, every slot of every worker that took part runs its version; rolled back,
//! none does; mixed, the reason says which slots run what. And in the end, when nothing fails any more: every deployment
//! ends in bounded time, one more for each app commits, and all slots run it; the history's numbers have no gaps, and
//! every one of its lines has ended.
//!
//! `TIDEGATE_SIM_SEED=17 cargo test -p tidegate-sim -- --nocapture` replays one seed and prints what happens;
//! `TIDEGATE_SIM_SEEDS=5000` tells more stories than the usual number.
//!
//! [`Deployments`]: tidegate_register::deployment::Deployments
//! [`Rollout`]: tidegate_wire::rollout::Rollout

mod check;
mod cluster;
mod faults;
mod ids;
mod kept;
mod operator;
mod random;
mod register;
mod traffic;
mod truth;
mod worker;

pub use self::cluster::{Cluster, Summary};
