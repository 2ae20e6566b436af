//! Errors that point into the file: line, column, key, and what was probably meant.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A mistake at a place in a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The key, such as `app[0].listen`; empty if the place is in none.
    pub key: String,
    /// What is wrong and how to mend it.
    pub reason: String,
    /// The line as it stands in the file.
    pub source: String,
    /// How many characters of it are meant.
    pub width: usize,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, key, reason, source, width } = self;
        write!(f, "{file}:{line}:{column}: ")?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(column.saturating_sub(1));
        let marks = "^".repeat((*width).max(1));
        write!(f, "{reason}\n{margin} |\n{number} | {source}\n{margin} | {indent}{marks}")
    }
}

/// A file's name and text, for pointing into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl Source<'_> {
    /// What the parser says, in words for people.
    pub fn explain(&self, error: &toml::de::Error) -> Mistake {
        let span = error.span().unwrap_or(0..0);
        self.at(&span, explain(error.message()))
    }

    /// A mistake at a span of bytes.
    pub fn at(&self, span: &Range<usize>, reason: String) -> Mistake {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let source = self.text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let meant = self.text.get(start..span.end.min(self.text.len())).unwrap_or_default();
        let meant = meant.lines().next().unwrap_or_default().chars().count();
        Mistake {
            file: self.path.display().to_string(),
            line: before.matches('\n').count() + 1,
            column: column + 1,
            key: self.key_at(start),
            reason,
            source: source.to_owned(),
            width: meant.min(source.chars().count().saturating_sub(column)),
        }
    }

    /// Where a key of the top level stands.
    pub fn key(&self, name: &str) -> Option<Range<usize>> {
        let (table, _) = DeTable::parse_recoverable(self.text);
        let found = table.get_ref().iter().find(|(key, _)| key.get_ref() == name);
        found.map(|(key, _)| key.span())
    }

    /// The text that a key of a section is set to, and where it stands.
    pub fn text_of(&self, section: &str, key: &str) -> Option<(Range<usize>, String)> {
        let (table, _) = DeTable::parse_recoverable(self.text);
        let DeValue::Table(table) = find(table.get_ref(), section)?.get_ref() else { return None };
        let value = find(table, key)?;
        match value.get_ref() {
            DeValue::String(text) => Some((value.span(), text.to_string())),
            _ => None,
        }
    }

    fn key_at(&self, offset: usize) -> String {
        let (table, _) = DeTable::parse_recoverable(self.text);
        let mut path = String::new();
        find_in_table(table.get_ref(), offset, &mut path);
        path
    }
}

fn find<'t, 'a>(table: &'t DeTable<'a>, name: &str) -> Option<&'t Spanned<DeValue<'a>>> {
    table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
}

/// Descends to the innermost key whose name or value covers the offset; the spans of tables do not cover their bodies.
fn find_in_table(table: &DeTable<'_>, offset: usize, path: &mut String) -> bool {
    let length = path.len();
    for (key, value) in table {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key.get_ref());
        if find_in_value(value.get_ref(), offset, path)
            || covers(&key.span(), offset)
            || covers(&value.span(), offset)
        {
            return true;
        }
        path.truncate(length);
    }
    false
}

fn find_in_value(value: &DeValue<'_>, offset: usize, path: &mut String) -> bool {
    match value {
        DeValue::Table(table) => find_in_table(table, offset, path),
        DeValue::Array(items) => items.iter().enumerate().any(|(index, item)| {
            let length = path.len();
            path.push_str(&format!("[{index}]"));
            let found = find_in_value(item.get_ref(), offset, path) || covers(&item.span(), offset);
            if !found {
                path.truncate(length);
            }
            found
        }),
        _ => false,
    }
}

fn covers(span: &Range<usize>, offset: usize) -> bool {
    span.contains(&offset)
}

/// Turns the parser's words into ours where ours say how to mend it.
fn explain(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field ") else { return message.to_owned() };
    // `unknown field `a`, expected one of `b`, `c``: what stands between the backticks.
    let mut names = rest.split('`').skip(1).step_by(2);
    let unknown = names.next().unwrap_or_default();
    let known: Vec<_> = names.collect();
    match closest(unknown, &known) {
        Some(close) => format!("unknown key `{unknown}`; did you mean `{close}`?"),
        None => format!("unknown key `{unknown}`; there are {}", known.join(", ")),
    }
}

/// The known name that was probably meant.
pub(super) fn closest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |name: &&str| strsim::damerau_levenshtein(unknown, name) <= 1 + unknown.len() / 4;
    let part = |name: &&str| unknown.len() >= 3 && (name.starts_with(unknown) || unknown.starts_with(*name));
    known
        .iter()
        .copied()
        .filter(|name| near(name) || part(name))
        .min_by_key(|name| strsim::damerau_levenshtein(unknown, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, needle: &str) -> Mistake {
        let source = Source { path: Path::new("t.toml"), text };
        let start = text.find(needle).unwrap();
        source.at(&(start..start + needle.len()), "wrong".into())
    }

    #[test]
    fn a_place_has_line_column_and_the_path_of_its_key() {
        let text = "# ä\n[node]\nname = \"N\"\n\n[[app]]\nslots = 1\n[[app]]\nlisten = [\"a\", \"b\"]\n\
                    heartbeat = { interval_ms = 7 }\n";
        let place = |needle| {
            let mistake = at(text, needle);
            (mistake.line, mistake.column, mistake.key)
        };
        assert_eq!(place("\"N\""), (3, 8, "node.name".into()));
        assert_eq!(place("\"b\""), (8, 16, "app[1].listen[1]".into()));
        assert_eq!(place("listen"), (8, 1, "app[1].listen".into()));
        assert_eq!(place("7"), (9, 29, "app[1].heartbeat.interval_ms".into()));
        assert_eq!(place("# ä").2, "");
    }

    #[test]
    fn the_message_shows_the_line_and_marks_the_place() {
        let text = "[node]\nname = \"N\"\n";
        let shown = at(text, "\"N\"").to_string();
        assert_eq!(shown, "t.toml:2:8: node.name: wrong\n  |\n2 | name = \"N\"\n  |        ^^^");
    }

    #[test]
    fn unknown_keys_come_with_what_was_probably_meant() {
        let known = "unknown field `listn`, expected one of `listen`, `web`, `slots`";
        assert_eq!(explain(known), "unknown key `listn`; did you mean `listen`?");
        let two = "unknown field `zzzzz`, expected `listen` or `web`";
        assert_eq!(explain(two), "unknown key `zzzzz`; there are listen, web");
        assert_eq!(closest("payload_max", &["payload_bytes_max", "plugin"]), None);
        assert_eq!(closest("register", &["registers", "identity"]), Some("registers"));
    }

    #[test]
    fn a_span_outside_of_the_text_does_no_harm() {
        let source = Source { path: Path::new("t.toml"), text: "a = 1" };
        assert_eq!(source.at(&(90..95), "wrong".into()).line, 1);
    }
}
