//! When a request is tried again. Pure.

use std::time::Duration;

use crate::Error;

const FIRST: Duration = Duration::from_millis(100);
pub(crate) const LONGEST: Duration = Duration::from_secs(5);

/// How long to wait before the next try; None: there must be none. `harmless`: nothing happens if it is carried out twice, or it
/// has a key. `chance` is of 0 to 255.
pub(crate) fn pause(error: &Error, tries: u32, harmless: bool, chance: u8) -> Option<Duration> {
    let after = match error {
        Error::Unreachable { sent, .. } if !sent || harmless => Duration::ZERO,
        // Nothing was done, and it may go well in a moment.
        Error::Problem(problem)
            if matches!(problem.kind(), "busy" | "too-fast" | "key-in-use" | "no-gateway") =>
        {
            problem.retry_after.min(LONGEST)
        }
        _ => return None,
    };
    let longest = FIRST.saturating_mul(2_u32.saturating_pow(tries)).min(LONGEST);
    // Half of it is chance, so that many who were refused together do not come back together.
    Some(after + longest / 2 + longest / 2 * u32::from(chance) / 256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Problem;

    fn problem(kind: &str) -> Error {
        let type_ = format!("urn:tidegate:problem:{kind}");
        let (title, detail) = (String::new(), String::new());
        Error::Problem(Problem { type_, title, status: 500, detail, retry_after: Duration::from_secs(1) })
    }

    #[test]
    fn what_was_not_done_or_does_no_harm_twice_is_tried_again() {
        let lost = |sent| Error::Unreachable { sent, why: String::new() };
        assert_eq!(pause(&lost(true), 0, true, 0), Some(FIRST / 2));
        assert_eq!(pause(&lost(false), 1, false, 0), Some(FIRST));
        assert_eq!(pause(&lost(true), 0, false, 0), None);
        for kind in ["busy", "too-fast", "key-in-use", "no-gateway"] {
            assert_eq!(
                pause(&problem(kind), 0, false, 0),
                Some(Duration::from_secs(1) + FIRST / 2),
                "{kind}"
            );
        }
        for kind in ["invalid", "key-reused", "refused", "new"] {
            assert_eq!(pause(&problem(kind), 0, true, 0), None, "{kind}");
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let lost = Error::Unreachable { sent: false, why: String::new() };
        for tries in 0..40 {
            for chance in [0, 255] {
                let pause = pause(&lost, tries, true, chance).unwrap();
                let longest = FIRST.saturating_mul(2_u32.saturating_pow(tries)).min(LONGEST);
                assert!(pause >= longest / 2 && pause < longest, "{tries}: {pause:?}");
            }
        }
    }
}
