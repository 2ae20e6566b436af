//! From bytes to a value. What is not understood is an error, never a guess.

use std::borrow::Cow;

use super::{Key, Value, key_number};

/// Deepest nesting; JSON of a session may have half of it.
const DEPTH_MAX: usize = 64;
/// Most values in one text: each takes some 64 bytes of memory, however short it is written.
const VALUES_MAX: usize = 65_536;

/// Why bytes are no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadValue {
    #[error("it is cut or broken at byte {0}")]
    Broken(usize),
    #[error("there is an object or a reference at byte {0}: convert it to an array first")]
    Object(usize),
    #[error("it is nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
    #[error("it has more than {VALUES_MAX} values")]
    TooMany,
}

/// Reads the one value that these bytes are.
pub(crate) fn read(bytes: &[u8]) -> Result<Value<'_>, BadValue> {
    let mut reader = Reader { bytes, at: 0, values: 0 };
    let value = reader.value(0)?;
    if reader.at == bytes.len() { Ok(value) } else { Err(reader.broken()) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>, BadValue> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(BadValue::TooMany);
        }
        let at = self.at;
        match self.byte()? {
            b'N' => self.expect(b";").map(|()| Value::Null),
            b'b' => match self.until(b';')? {
                b"0" => Ok(Value::Bool(false)),
                b"1" => Ok(Value::Bool(true)),
                _ => Err(BadValue::Broken(at)),
            },
            b'i' => self.number(b';').map(Value::Int),
            b'd' => self.float().map(Value::Float),
            b's' => self.text().map(|text| Value::Text(Cow::Borrowed(text))),
            b'a' if depth >= DEPTH_MAX => Err(BadValue::TooDeep),
            b'a' => self.array(depth).map(Value::Array),
            b'O' | b'C' | b'E' | b'R' | b'r' => Err(BadValue::Object(at)),
            _ => Err(BadValue::Broken(at)),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Vec<(Key<'a>, Value<'a>)>, BadValue> {
        let count = self.number(b':')?;
        self.expect(b"{")?;
        // Not made large ahead: the number is only a claim.
        let mut entries = Vec::new();
        for _ in 0..count {
            let at = self.at;
            let key = match self.byte()? {
                b'i' => Key::Int(self.number(b';')?),
                b's' => {
                    let text = self.text()?;
                    key_number(text).map_or(Key::Text(Cow::Borrowed(text)), Key::Int)
                }
                _ => return Err(BadValue::Broken(at)),
            };
            entries.push((key, self.value(depth + 1)?));
        }
        self.expect(b"}")?;
        if count < 0 { Err(self.broken()) } else { Ok(entries) }
    }

    /// `:LENGTH:"BYTES";`
    fn text(&mut self) -> Result<&'a [u8], BadValue> {
        let length = usize::try_from(self.number(b':')?).map_err(|_| self.broken())?;
        self.expect(b"\"")?;
        let end = self.at.checked_add(length).ok_or_else(|| self.broken())?;
        let text = self.bytes.get(self.at..end).ok_or_else(|| self.broken())?;
        self.at = end;
        self.expect(b"\";")?;
        Ok(text)
    }

    /// `:NUMBER` and the byte that ends it.
    fn number(&mut self, end: u8) -> Result<i64, BadValue> {
        let at = self.at;
        let text = self.until(end)?;
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.ok_or(BadValue::Broken(at))
    }

    fn float(&mut self) -> Result<f64, BadValue> {
        let at = self.at;
        match self.until(b';')? {
            b"INF" => Ok(f64::INFINITY),
            b"-INF" => Ok(f64::NEG_INFINITY),
            b"NAN" => Ok(f64::NAN),
            text => {
                let digits = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
                let text = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|b| digits(&b)));
                text.and_then(|text| text.parse().ok()).ok_or(BadValue::Broken(at))
            }
        }
    }

    /// What stands between a colon and this byte. No number is long.
    fn until(&mut self, end: u8) -> Result<&'a [u8], BadValue> {
        const DIGITS_MAX: usize = 400;
        self.expect(b":")?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().take(DIGITS_MAX).position(|b| *b == end).ok_or_else(|| self.broken())?;
        self.at += length + 1;
        rest.get(..length).ok_or_else(|| self.broken())
    }

    fn byte(&mut self) -> Result<u8, BadValue> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.broken())?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, text: &[u8]) -> Result<(), BadValue> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !rest.starts_with(text) {
            return Err(self.broken());
        }
        self.at += text.len();
        Ok(())
    }

    fn broken(&self) -> BadValue {
        BadValue::Broken(self.at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Writer;
    use super::*;

    #[test]
    fn what_php_wrote_is_read() {
        // serialize([1.5, 1e25, true, null, 'k' => ["7" => "a\"b", -1 => []]])
        let bytes =
            b"a:5:{i:0;d:1.5;i:1;d:1.0E+25;i:2;b:1;i:3;N;s:1:\"k\";a:2:{i:7;s:3:\"a\"b\";i:-1;a:0:{}}}";
        let text = |text: &'static str| Cow::Borrowed(text.as_bytes());
        let inner = vec![(Key::Int(7), Value::Text(text("a\"b"))), (Key::Int(-1), Value::Array(vec![]))];
        let expected = Value::Array(vec![
            (Key::Int(0), Value::Float(1.5)),
            (Key::Int(1), Value::Float(1e25)),
            (Key::Int(2), Value::Bool(true)),
            (Key::Int(3), Value::Null),
            (Key::Text(text("k")), Value::Array(inner)),
        ]);
        assert_eq!(read(bytes), Ok(expected));
    }

    #[test]
    fn what_is_broken_an_object_or_too_much_is_refused() {
        for bytes in [
            &b""[..],
            b"N",
            b"N;N;",
            b"i:;",
            b"i:1",
            b"b:2;",
            b"d:0x1;",
            b"d:nan;",
            b"s:5:\"abc\";",
            b"s:-1:\"\";",
            b"s:18446744073709551615:\"\";",
            b"a:2:{i:0;N;}",
            b"a:-1:{}",
            b"a:9223372036854775807:{",
            b"a:1:{N;N;}",
            b"x:1;",
        ] {
            assert!(matches!(read(bytes), Err(BadValue::Broken(_))), "{}", bytes.escape_ascii());
        }
        for bytes in [&b"O:8:\"stdClass\":0:{}"[..], b"a:1:{i:0;R:1;}", b"E:3:\"A:B\";", b"C:1:\"A\":0:{}"] {
            assert!(matches!(read(bytes), Err(BadValue::Object(_))), "{}", bytes.escape_ascii());
        }
        let deep = "a:1:{i:0;".repeat(100_000);
        assert_eq!(read(deep.as_bytes()), Err(BadValue::TooDeep));
        let many = format!("a:70000:{{{}}}", "i:0;N;".repeat(70_000));
        assert_eq!(read(many.as_bytes()), Err(BadValue::TooMany));
    }

    fn value() -> impl Strategy<Value = Value<'static>> {
        let plain = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_filter("NaN equals nothing", |f| !f.is_nan()).prop_map(Value::Float),
            any::<Vec<u8>>().prop_map(|text| Value::Text(text.into())),
        ];
        let key = prop_oneof![
            any::<i64>().prop_map(Key::Int),
            "[a-z]{0,3}".prop_map(|k| Key::Text(k.into_bytes().into()))
        ];
        plain.prop_recursive(4, 64, 6, move |inner| {
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(Value::Array)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in value()) {
            let mut writer = Writer::default();
            writer.value(&value);
            let bytes = writer.into_bytes();
            prop_assert_eq!(read(&bytes), Ok(value));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }

        #[test]
        fn nothing_that_looks_like_a_value_makes_it_panic(text in "[abdisNORE:;{}\"0-9.-]{0,60}") {
            let _ = read(text.as_bytes());
        }
    }
}
