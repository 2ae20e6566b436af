//! What a query answers.

use std::fmt;

/// The answer to a query: the value, or what is known of it if a gateway did not answer in time. Never a guess.
///
/// `?` in a callback fails the turn when the answer is not whole; [`WhateverAnswered::whatever_answered`] takes what
/// there is.
pub type Answer<T> = std::result::Result<T, Partial<T>>;

/// An answer that is not whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Partial<T> {
    /// What the other gateways said.
    pub value: T,
    /// The numbers of the gateways that did not answer in time; at least one.
    pub missing: Vec<u64>,
}

impl<T> Partial<T> {
    /// The same gateways missing from another value.
    #[must_use]
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Partial<U> {
        Partial { value: f(self.value), missing: self.missing }
    }
}

impl<T> fmt::Display for Partial<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer is not whole: no answer in time from gateway")?;
        let mut separator = " ";
        for gateway in &self.missing {
            write!(f, "{separator}{gateway:012x}")?;
            separator = ", ";
        }
        f.write_str("; use whatever_answered() to go on with what the others said")
    }
}

// Not derived: an error must be Debug whatever its value is.
impl<T> fmt::Debug for Partial<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partial").field("missing", &self.missing).finish_non_exhaustive()
    }
}

impl<T> std::error::Error for Partial<T> {}

/// Takes an answer even if it is not whole.
pub trait WhateverAnswered {
    /// The value.
    type Value;

    /// The value, whole or not.
    fn whatever_answered(self) -> Self::Value;
}

impl<T> WhateverAnswered for Answer<T> {
    type Value = T;

    fn whatever_answered(self) -> T {
        self.unwrap_or_else(|partial| partial.value)
    }
}

pub(crate) fn answer<T>((value, missing): (T, Vec<u64>)) -> Answer<T> {
    if missing.is_empty() { Ok(value) } else { Err(Partial { value, missing }) }
}

pub(crate) fn map<T, U>(answer: Answer<T>, f: impl FnOnce(T) -> U) -> Answer<U> {
    match answer {
        Ok(value) => Ok(f(value)),
        Err(partial) => Err(partial.map(f)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_missing_gateways_is_an_error_that_still_has_the_value() {
        assert_eq!(answer((3, vec![])), Ok(3));
        let partial = map(answer((3, vec![10, 11])), |n| n + 1);
        let error = crate::Error::from(partial.clone().unwrap_err()).to_string();
        assert!(error.contains("00000000000a, 00000000000b"), "{error}");
        assert_eq!(partial.whatever_answered(), 4);
    }
}
