//! The query of a request's path: keys that the table of operations names, and no others.

use crate::operation::{QueryKey, QueryKind};
use crate::problem::{Kind, Problem};

/// What a query says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked(Vec<(&'static str, Value)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    Word(&'static str),
    Text(String),
}

impl Asked {
    /// Reads a query.
    pub fn read(query: Option<&str>, keys: &'static [QueryKey]) -> Result<Self, Problem> {
        let mut asked = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            let Some(key) = keys.iter().find(|key| key.name == name) else {
                return Err(unknown(&name, keys));
            };
            if asked.find(key.name).is_some() {
                return Err(invalid(format!("`{}` stands in the query twice: say it once", key.name)));
            }
            asked.0.push((key.name, key.value(decode(value)?)?));
        }
        Ok(asked)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        match self.find(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub fn word(&self, name: &str) -> Option<&'static str> {
        match self.find(name) {
            Some(Value::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.find(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

impl QueryKey {
    fn value(&self, text: String) -> Result<Value, Problem> {
        let name = self.name;
        match self.kind {
            QueryKind::Number(min, max) => {
                let number = text.parse().ok().filter(|number| (min..=max).contains(number));
                let wrong =
                    || invalid(format!("`{name}` in the query is a whole number from {min} to {max}"));
                number.map(Value::Number).ok_or_else(wrong)
            }
            QueryKind::Word(words) => {
                let word = words.iter().copied().find(|word| *word == text);
                let wrong = || invalid(format!("`{name}` in the query is one of {}", words.join(", ")));
                word.map(Value::Word).ok_or_else(wrong)
            }
            QueryKind::Text(max) if text.len() > max => Err(invalid(format!(
                "`{name}` in the query has {} bytes, at most {max} are taken",
                text.len()
            ))),
            QueryKind::Text(_) => Ok(Value::Text(text)),
        }
    }
}

fn unknown(name: &str, keys: &[QueryKey]) -> Problem {
    let known: Vec<_> = keys.iter().map(|key| key.name).collect();
    let name: String = name.chars().take(80).collect();
    invalid(match known[..] {
        [] => format!("this path takes no query, and `{name}` stands there: leave it out"),
        _ => format!("`{name}` in the query is nothing that this path takes: it takes {}", known.join(", ")),
    })
}

fn invalid(detail: String) -> Problem {
    Problem::new(Kind::Invalid, detail)
}

/// Percent signs and plus signs taken back.
fn decode(text: &str) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = (rest.next().and_then(digit), rest.next().and_then(digit));
                let (Some(high), Some(low)) = digits else {
                    let detail =
                        "a % in the query is followed by two hex digits: write %25 for the sign itself";
                    return Err(invalid(detail.to_owned()));
                };
                high << 4 | low
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| invalid("the query is no UTF-8".to_owned()))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::operation::Operation;

    fn read(query: &str) -> Result<Asked, String> {
        Asked::read(Some(query), Operation::Deploy.facts().query).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_query_says_what_the_table_lets_it() {
        let asked = read("canary=25&wait=end&note=better%2C+I%20hope%25").unwrap();
        assert_eq!((asked.number("canary"), asked.word("wait")), (Some(25), Some("end")));
        assert_eq!((asked.text("note"), asked.number("events_min")), (Some("better, I hope%"), None));
        assert_eq!(Asked::read(None, &[]).unwrap(), Asked::default());
        for (wrong, said) in [
            ("canary=0", "1 to 99"),
            ("canary=x", "1 to 99"),
            ("canary", "1 to 99"),
            ("wait=later", "progress, end, none"),
            ("canary=1&canary=1", "twice"),
            ("speed=9", "it takes wait, canary"),
            ("note=%zz", "%25"),
            ("note=%ff", "UTF-8"),
        ] {
            let problem = read(wrong).unwrap_err();
            assert!(problem.contains(said), "{wrong}: {problem}");
        }
        assert!(read(&format!("note={}", "x".repeat(5000))).is_err());
        assert!(Asked::read(Some("x=1"), &[]).unwrap_err().detail.contains("no query"));
    }

    proptest! {
        #[test]
        fn no_query_does_harm(query in "\\PC{0,60}") {
            let _ = read(&query);
        }
    }
}
