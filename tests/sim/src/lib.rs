//! A cluster in one thread, for tests of hot swaps: the real [`Deployments`] of a register, the real [`Rollout`]s of
//! workers and the real ends of lanes between gateways and slots, with everything between and around them made up from a
//! seed.
//!
//! | real | simulated | not here |
//! | --- | --- | --- |
//! | `register::deployment::Deployments` | links: delay, order within a link, cuts noticed late on each side | several registers |
//! | `wire::rollout::Rollout` | the store: delay, a full disk, what is written survives the register | the store's own crash safety |
//! | the control messages, through their bytes | workers: processes that die and come back empty, or stop in good order | a stop that takes too long and is cut off |
//! | `wire::EventLane`: numbers, credit, release, hand-over of unread events, loss | lanes: delay, order within a direction, bytes in any pieces, breaks noticed late on each side, the next generation | QUIC, flow control, slow lanes |
//! | `wire::SlotLane` and `Releases`, the frames of lanes, through their bytes | slots: one turn or switch at a time, several parts in a turn, turns that err or trap, restarts without state | running guests, timers, queries, sessions |
//! | | switches: time to prepare and switch, failures of each step, state saved and restored, kept to go back to | what a plugin's own `save` and `restore` do |
//! | | gateways: clients with a cap on their events, bound to any slot that is up, their counts | gateways that die, shards, lanes opened only when they are wanted |
//! | | clients: numbered messages in bursts | sockets and their protocols, slow and closed clients |
//! | | registers that die, also while they write, and go on from the store | |
//! | | operators: deploys, rollbacks, canaries, cancels, two deploys at once | |
//!
//! How a slot, a conductor and a gateway's shard drive the real machines is told again here in small, without their
//! sockets and instances: `traffic::slot` and `traffic::outbox`, `kept`, `traffic::gateway`.
//!
//! What holds after every step of a deployment: both machines' own invariants; a slot has at most one instance that runs
//! and one beside it, and never becomes empty in its worker's life; no worker hears of a phase that is not written down,
//! but for going back; no slot runs a version whose switch was not written down; what is stable was committed.
//!
//! What holds for every message, turn and answer:
//! - A slot has turns only while it has an instance and is not being switched, one at a time. Their numbers grow by one.
//! - No message has two turns, whatever dies; a message with a finished turn has its answer, once, unless the turn failed.
//! - A client's answers come in the order of its messages, and none before everything ahead of it has come to its end.
//! - Messages are lost only on lanes that broke or whose worker died, and the gateways' counts are exactly those. A
//!   worker that stops in good order, a swap, or a dead register loses none. What a slot hands on had no turn.
//! - Each answer has the version that its slot's switches give to the number of its turn, and that the slot last told on
//!   its lane. A slot goes back to an earlier version only from one that is not committed.
//! - An instance knows how many messages of each client the slot has handled since its last trap, through all
//!   switches; where a switch says that state is lost, handing it over has failed, and it knows what the slot handed over
//!   when it left that version, or nothing if nothing was.
//! - No more waits in a slot than it has granted credit for, and both ends of each lane keep their own invariants.
//!
//! What holds when a deployment ends: committed, every slot of every worker that took part runs its version; rolled back,
//! none does; mixed, the reason says which slots run what. Its report finds nothing lost, repeated or reordered by the
//! numbers of events, and divides the turns of slots as they were. And in the end, when nothing fails any more: every
//! deployment ends in bounded time, one more for each app commits, and all slots run it; the history's numbers have no
//! gaps, and every one of its lines has ended; and every message has come to its end.
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
pub use self::traffic::ledger::Totals;
