//! Whether a new version is worse than the one before.

use tidegate_wire::report::Tally;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is not worse; the numbers.
    Good {
        /// In words.
        why: String,
    },
    /// It is worse; the numbers.
    Worse {
        /// In words.
        why: String,
    },
    /// One of the versions has run too few turns; the numbers.
    Undecided {
        /// In words.
        why: String,
    },
}

/// Compares what both versions did over the same time. The new one is worse if the share of its callbacks that failed,
/// trapped or overran is more than 1.5 times the old one's, plus 1 percent: so a version without any failure before it
/// is allowed one in a hundred, and chance alone seldom condemns. Each must have run `events_min` turns.
pub fn judge(old: Tally, new: Tally, events_min: u64) -> Verdict {
    let why = format!("{} of new turns failed, {} of old ones", share(new), share(old));
    if old.turns.min(new.turns) < events_min.max(1) {
        return Verdict::Undecided { why: format!("{why}; each needs {events_min} turns") };
    }
    // new / turns > 3/2 * old / turns + 1/100, without fractions.
    let [new_failed, new_turns] = [new.failures(), new.turns].map(u128::from);
    let [old_failed, old_turns] = [old.failures(), old.turns].map(u128::from);
    let allowed = (150 * old_failed + old_turns).saturating_mul(new_turns);
    if (100 * new_failed).saturating_mul(old_turns) > allowed {
        Verdict::Worse { why }
    } else {
        Verdict::Good { why }
    }
}

/// Whether the new version is worse at once: it trapped or overran on more than half of the slots that run it.
pub fn traps_too_much(slots_trapped: u64, slots_switched: u64) -> bool {
    slots_trapped > slots_switched / 2
}

/// `3 of 120 (2.50%)`.
fn share(tally: Tally) -> String {
    let (failed, turns) = (tally.failures(), tally.turns);
    let hundredths = u128::from(failed) * 10_000 / u128::from(turns.max(1));
    format!("{failed} of {turns} ({}.{:02}%)", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(turns: u64, errors: u64) -> Tally {
        Tally { turns, errors, ..Tally::default() }
    }

    fn is_worse(old: Tally, new: Tally) -> bool {
        matches!(judge(old, new, 100), Verdict::Worse { .. })
    }

    #[test]
    fn one_failure_in_a_hundred_is_allowed_to_a_version_after_a_perfect_one() {
        let old = tally(1_000, 0);
        assert!(!is_worse(old, tally(100, 1)));
        assert!(is_worse(old, tally(100, 2)));
    }

    #[test]
    fn half_as_many_failures_more_are_allowed_and_one_in_a_hundred() {
        let old = tally(1_000, 100);
        assert!(!is_worse(old, tally(1_000, 160)));
        assert!(is_worse(old, tally(1_000, 161)));
        assert!(!is_worse(old, tally(1_000, 0)));
    }

    #[test]
    fn errors_traps_and_overruns_count_the_same() {
        let old = tally(100, 0);
        let bad = Tally { turns: 100, errors: 0, traps: 2, overruns: 0 };
        assert!(is_worse(old, bad));
        assert!(is_worse(old, Tally { overruns: 2, traps: 0, ..bad }));
        assert!(is_worse(old, Tally { errors: 1, overruns: 1, traps: 0, ..bad }));
    }

    #[test]
    fn too_few_turns_on_either_side_decide_nothing() {
        for (old, new) in [(99, 100), (100, 99), (0, 0)] {
            let verdict = judge(tally(old, old), tally(new, 0), 100);
            assert!(matches!(verdict, Verdict::Undecided { .. }), "{verdict:?}");
        }
        assert!(matches!(judge(tally(0, 0), tally(0, 0), 0), Verdict::Undecided { .. }));
    }

    #[test]
    fn the_reason_has_the_numbers() {
        let Verdict::Worse { why } = judge(tally(200, 1), tally(120, 3), 100) else { panic!("not worse") };
        assert_eq!(why, "3 of 120 (2.50%) of new turns failed, 1 of 200 (0.50%) of old ones");
    }

    #[test]
    fn the_largest_numbers_are_compared_without_overflow() {
        let all = Tally { turns: u64::MAX, errors: u64::MAX, traps: u64::MAX, overruns: u64::MAX };
        assert!(is_worse(tally(u64::MAX, 0), all));
        assert!(!is_worse(all, all));
    }

    #[test]
    fn traps_on_more_than_half_of_the_slots_are_too_much() {
        let cases = [(0, 0), (1, 1), (1, 2), (2, 3), (2, 4), (3, 4)].map(|(t, s)| traps_too_much(t, s));
        assert_eq!(cases, [false, true, false, true, false, true]);
    }
}
