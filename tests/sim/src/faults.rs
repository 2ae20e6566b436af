//! How often what fails. All zero: nothing fails any more.

use crate::random::Random;

/// One in so many; 0: never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub load: u64,
    pub prepare: u64,
    pub switch: u64,
    /// A step toward the stable version.
    pub back: u64,
    /// The instance that is ready beside a slot's own goes.
    pub lost: u64,
    pub trap: u64,
    pub worker: u64,
    /// A worker stops in good order.
    pub stop: u64,
    /// A lane breaks though both its ends live.
    pub lane: u64,
    pub cut: u64,
    pub register: u64,
    pub disk: u64,
    pub count: u64,
    /// Whether modules have bad manners.
    pub manners: bool,
}

impl Faults {
    /// A mixture for one seed: most faults are rare or absent, so that deployments get far in many ways.
    pub fn of(random: &mut Random) -> Self {
        let mut often = |least: u64| match random.below(3) {
            0 => 0,
            1 => least * 10,
            _ => least,
        };
        Self {
            load: often(20),
            prepare: often(20),
            switch: often(15),
            back: often(15),
            lost: often(60),
            trap: often(10),
            worker: often(12),
            stop: often(15),
            lane: often(8),
            cut: often(10),
            register: often(15),
            disk: often(12),
            count: often(5),
            manners: true,
        }
    }
}
