//! From values to bytes, as PHP writes them.

use std::io::Write;

use super::key_number;
#[cfg(test)]
use super::{Key, Value};

/// Writes values one after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Any value.
    #[cfg(test)]
    pub fn value(&mut self, value: &Value<'_>) {
        match value {
            Value::Null => self.null(),
            Value::Bool(truth) => self.bool(*truth),
            Value::Int(number) => self.int(*number),
            Value::Float(number) => self.float(*number),
            Value::Text(text) => self.text(text),
            Value::Array(entries) => self.array(entries.len(), |writer| {
                for (key, value) in entries {
                    match key {
                        Key::Int(number) => writer.int(*number),
                        Key::Text(text) => writer.text(text),
                    }
                    writer.value(value);
                }
            }),
        }
    }

    /// `null`
    pub fn null(&mut self) {
        self.0.extend_from_slice(b"N;");
    }

    /// A truth value.
    pub fn bool(&mut self, truth: bool) {
        self.put(format_args!("b:{};", u8::from(truth)));
    }

    /// A whole number.
    pub fn int(&mut self, number: i64) {
        self.put(format_args!("i:{number};"));
    }

    /// A float, in the fewest digits that are read as the same one.
    pub fn float(&mut self, number: f64) {
        let size = number.abs();
        match number {
            _ if number.is_nan() => self.0.extend_from_slice(b"d:NAN;"),
            _ if number.is_infinite() => {
                self.put(format_args!("d:{}INF;", if number < 0.0 { "-" } else { "" }))
            }
            _ if size != 0.0 && !(1e-4..1e17).contains(&size) => self.put(format_args!("d:{number:E};")),
            _ => self.put(format_args!("d:{number};")),
        }
    }

    /// A text.
    pub fn text(&mut self, text: &[u8]) {
        self.put(format_args!("s:{}:\"", text.len()));
        self.0.extend_from_slice(text);
        self.0.extend_from_slice(b"\";");
    }

    /// An array of so many entries, each of which is a key and a value.
    pub fn array(&mut self, entries: usize, write: impl FnOnce(&mut Self)) {
        self.put(format_args!("a:{entries}:{{"));
        write(self);
        self.0.push(b'}');
    }

    /// A list: keys are 0, 1, ...
    pub fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.array(items.len(), |writer| {
            for (at, item) in (0..).zip(items) {
                writer.int(at);
                write(writer, item);
            }
        });
    }

    /// A text as a key: a number if it is one.
    pub fn key(&mut self, text: &str) {
        match key_number(text.as_bytes()) {
            Some(number) => self.int(number),
            None => self.text(text.as_bytes()),
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // A Vec takes all.
        let _ = self.0.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_what_php_writes() {
        let mut writer = Writer::default();
        let text = |text: &'static [u8]| Value::Text(text.into());
        writer.value(&Value::Array(vec![
            (Key::Int(0), Value::Float(0.1)),
            (Key::Int(1), Value::Float(-0.0)),
            (Key::Int(2), Value::Float(100_000.0)),
            (Key::Text(b"k"[..].into()), Value::Array(vec![(Key::Int(7), text(b"\xff\""))])),
            (Key::Int(3), Value::Bool(true)),
            (Key::Int(4), Value::Null),
        ]));
        let php = b"a:6:{i:0;d:0.1;i:1;d:-0;i:2;d:100000;s:1:\"k\";a:1:{i:7;s:2:\"\xff\"\";}i:3;b:1;i:4;N;}";
        assert_eq!(writer.into_bytes().escape_ascii().to_string(), php.escape_ascii().to_string());
    }

    #[test]
    fn keys_that_are_numbers_are_numbers() {
        let keys =
            ["7", "-7", "0", "07", "+7", "-0", "7.0", "", "9223372036854775808", "-9223372036854775808"];
        let numbers: Vec<_> = keys.iter().filter_map(|key| key_number(key.as_bytes())).collect();
        assert_eq!(numbers, [7, -7, 0]);
    }
}
