//! How much of a machine's processors somebody may use.

use std::fmt;
use std::str::FromStr;

/// So many cores, in thousandths: 0.01 to 1,024. It may be spent on any number of cores at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuShare(u32);

impl CpuShare {
    /// The smallest share.
    pub const MIN: Self = Self(10);
    /// The largest share.
    pub const MAX: Self = Self(1_024_000);

    /// So many thousandths of a core, or the nearest share that there is.
    pub const fn from_millis(millis: u32) -> Self {
        match millis {
            0..10 => Self::MIN,
            10..=1_024_000 => Self(millis),
            _ => Self::MAX,
        }
    }

    /// So many cores, rounded to thousandths.
    ///
    /// # Errors
    /// It is no number, or out of range.
    pub fn from_cores(cores: f64) -> Result<Self, InvalidShare> {
        let millis = (cores * 1000.0).round();
        if (f64::from(Self::MIN.0)..=f64::from(Self::MAX.0)).contains(&millis) {
            // In range, so nothing is cut.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is checked above"
            )]
            return Ok(Self(millis as u32));
        }
        Err(InvalidShare)
    }

    /// Thousandths of a core: milliseconds of CPU time per second.
    pub const fn millis(self) -> u32 {
        self.0
    }
}

impl Default for CpuShare {
    /// Half a core.
    fn default() -> Self {
        Self(500)
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

impl FromStr for CpuShare {
    type Err = InvalidShare;

    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        text.parse().map_err(|_| InvalidShare).and_then(Self::from_cores)
    }
}

/// A share of the processors that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a share of the processors is a number of cores from 0.01 to 1024, such as 0.5")]
pub struct InvalidShare;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_is_read_as_cores_and_shown_as_such() {
        for (text, millis) in [("0.5", 500), ("2", 2000), ("0.01", 10), ("1024", 1_024_000), ("0.1234", 123)]
        {
            assert_eq!(text.parse::<CpuShare>().map(CpuShare::millis), Ok(millis), "{text}");
        }
        assert_eq!(CpuShare::default().to_string(), "0.5");
        assert_eq!(CpuShare::from_millis(2000).to_string(), "2");
        for text in ["", "0", "0.009", "1025", "-1", "NaN", "inf", "half"] {
            assert_eq!(text.parse::<CpuShare>(), Err(InvalidShare), "{text}");
        }
        assert_eq!(
            (CpuShare::from_millis(0), CpuShare::from_millis(u32::MAX)),
            (CpuShare::MIN, CpuShare::MAX)
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(millis in 10..=1_024_000_u32) {
            let share = CpuShare::from_millis(millis);
            prop_assert_eq!(share.to_string().parse::<CpuShare>(), Ok(share));
        }
    }
}
