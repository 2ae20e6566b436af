//! The error of a callback.

use std::fmt;

/// What a callback returns: `Result` is `Result<(), Error>`, and the standard two-parameter form works as well.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why a turn failed: any error, string or message, boxed.
///
/// `?` turns everything into it that `Box<dyn std::error::Error>` can be made from: every error type, `&str`, `String`.
/// A callback that returns it fails its turn: the commands that have not left yet are dropped, the message is logged
/// and counted by the host, and the plugin lives on.
///
/// Like every catch-all error it does not implement [`std::error::Error`] itself, so that the conversion can exist.
pub struct Error(Box<dyn std::error::Error>);

impl Error {
    /// An error of a message.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self(message.to_string().into())
    }

    /// The error inside, if it is an `E`.
    #[must_use]
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }

    /// The error inside.
    #[must_use]
    pub fn inner(&self) -> &(dyn std::error::Error + 'static) {
        &*self.0
    }
}

impl<E: Into<Box<dyn std::error::Error>>> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// The message; with `{:#}` the causes too, as `message: cause: cause`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source().filter(|_| f.alternate());
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}")
    }
}

/// Returns from a callback with an error of a formatted message.
///
/// ```
/// fn positive(n: i64) -> tidegate::Result<i64> {
///     if n < 1 {
///         tidegate::bail!("{n} is not positive");
///     }
///     Ok(n)
/// }
/// assert_eq!(positive(-1).unwrap_err().to_string(), "-1 is not positive");
/// ```
#[macro_export]
macro_rules! bail {
    ($($message:tt)+) => {
        return ::core::result::Result::Err($crate::Error::msg(::core::format_args!($($message)+)))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "no age")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    fn age(text: &str) -> Result<u8> {
        Ok(text.parse().map_err(Outer)?)
    }

    #[test]
    fn any_error_and_any_string_converts_with_a_question_mark() {
        fn of_str() -> Result {
            Err("plain")?;
            Ok(())
        }
        fn of_string() -> Result {
            Err(format!("built {}", 1))?;
            Ok(())
        }
        assert_eq!(of_str().unwrap_err().to_string(), "plain");
        assert_eq!(of_string().unwrap_err().to_string(), "built 1");
        assert_eq!(age("7").unwrap(), 7);
    }

    #[test]
    fn the_alternate_form_names_the_causes() {
        let error = age("x").unwrap_err();
        assert_eq!(error.to_string(), "no age");
        assert_eq!(format!("{error:#}"), "no age: invalid digit found in string");
        assert!(error.downcast_ref::<Outer>().is_some());
    }
}
