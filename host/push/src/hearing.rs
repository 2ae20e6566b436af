//! Whether a gateway answers: who let a whole wait pass without a word is not waited for as long again. Pure.

/// What is known of one gateway, whatever links and lanes it has.
///
/// Calling contract: [`now`](Self::now) when something is asked; [`on_heard`](Self::on_heard) with whatever it says;
/// [`on_waited_out`](Self::on_waited_out) with that moment if the whole wait went by.
#[derive(Debug, Default)]
pub(crate) struct Hearing {
    /// How often it was heard.
    heard: u64,
    silent: bool,
}

/// A moment in the life of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(u64);

#[cfg(test)]
impl Moment {
    /// Before a gateway was ever heard.
    pub const FIRST: Self = Self(0);
}

impl Hearing {
    /// The moment at which something is asked.
    pub fn now(&self) -> Moment {
        Moment(self.heard)
    }

    /// It has said something, or has a new link.
    pub fn on_heard(&mut self) {
        self.heard = self.heard.wrapping_add(1);
        self.silent = false;
    }

    /// A whole wait for an answer to what was asked then went by. It is silent if it has said nothing to anybody since: one lane
    /// that is slow is not the whole gateway.
    pub fn on_waited_out(&mut self, asked: Moment) {
        self.silent |= asked == self.now();
    }

    /// Whether it is worth a short wait only.
    pub fn is_silent(&self) -> bool {
        self.silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_for_a_whole_wait_is_silent_until_it_says_something() {
        let mut hearing = Hearing::default();
        let asked = hearing.now();
        assert!(!hearing.is_silent());
        hearing.on_waited_out(asked);
        assert!(hearing.is_silent());
        // A shorter wait that goes by says nothing new.
        hearing.on_waited_out(hearing.now());
        assert!(hearing.is_silent());
        hearing.on_heard();
        assert!(!hearing.is_silent());
        // What was asked before that has been waited for in vain, but others were not.
        hearing.on_waited_out(asked);
        assert!(!hearing.is_silent());
    }
}
