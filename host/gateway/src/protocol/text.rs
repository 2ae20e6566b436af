//! Lines of UTF-8.
//!
//! A line ends with `\n`; one `\r` before it belongs to the end too (telnet, Windows), every other byte to the line. An
//! empty line is an empty message. What comes without an end is not a message: at the end of a connection it is lost.

use tidegate_base::MessageKind;

use super::{Decoded, Item, Limits, ProtocolError};

/// Splits a stream into lines.
#[derive(Debug, Default)]
pub struct Decoder {
    // How many bytes at the front are known to hold no newline: a line that comes in many reads is searched once.
    searched: usize,
}

impl Decoder {
    /// Takes one line off the front of `buf`. See [`Codec::decode`](super::Codec::decode).
    ///
    /// # Errors
    /// A line that is longer than the limit, even if its end is not here yet, or that is not UTF-8.
    #[inline]
    pub fn decode<'a>(&mut self, buf: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        let searched = self.searched.min(buf.len());
        let (_, fresh) = buf.split_at(searched);
        let Some(found) = find_newline(fresh) else {
            self.searched = buf.len();
            // A last `\r` may belong to the line's end.
            check_size(buf.strip_suffix(b"\r").unwrap_or(buf), limits)?;
            return Ok(Decoded::Incomplete { consumed: 0, needed: buf.len() + 1 });
        };
        self.searched = 0;
        let end = searched + found;
        let (line, _) = buf.split_at(end);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        check_size(line, limits)?;
        simdutf8::compat::from_utf8(line).map_err(|e| ProtocolError::InvalidUtf8 { at: e.valid_up_to() })?;
        Ok(Decoded::Item { consumed: end + 1, item: Item::Message(MessageKind::Text, line) })
    }
}

/// Appends `payload` and a newline. Newlines inside the payload are not escaped: the client reads several lines.
pub(super) fn encode(payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(payload.len() + 1);
    out.extend_from_slice(payload);
    out.push(b'\n');
}

fn check_size(line: &[u8], limits: &Limits) -> Result<(), ProtocolError> {
    if line.len() > limits.payload_bytes_max {
        // Not the length so far, which depends on how the stream was split into reads.
        let bytes = (limits.payload_bytes_max as u64).saturating_add(1);
        return Err(ProtocolError::TooBig { bytes, limit: limits.payload_bytes_max });
    }
    Ok(())
}

// A loop over whole blocks without an early exit inside becomes vector code.
fn find_newline(bytes: &[u8]) -> Option<usize> {
    let (blocks, tail) = bytes.as_chunks::<32>();
    for (i, block) in blocks.iter().enumerate() {
        if block.iter().fold(false, |found, byte| found | (*byte == b'\n')) {
            return block.iter().position(|byte| *byte == b'\n').map(|at| i * 32 + at);
        }
    }
    tail.iter().position(|byte| *byte == b'\n').map(|at| blocks.len() * 32 + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { payload_bytes_max: 8 };

    fn line(bytes: &[u8]) -> Result<(usize, Vec<u8>), ProtocolError> {
        match Decoder::default().decode(bytes, &LIMITS)? {
            Decoded::Item { consumed, item: Item::Message(MessageKind::Text, line) } => {
                Ok((consumed, line.to_vec()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_ends_with_a_newline_and_perhaps_one_carriage_return() {
        assert_eq!(line(b"hi\nyou\n"), Ok((3, b"hi".to_vec())));
        assert_eq!(line(b"hi\r\n"), Ok((4, b"hi".to_vec())));
        assert_eq!(line(b"hi\r\r\n"), Ok((5, b"hi\r".to_vec())));
        assert_eq!(line(b"\n"), Ok((1, vec![])));
        assert_eq!(line(b"\r\n"), Ok((2, vec![])));
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        let too_big = Err(ProtocolError::TooBig { bytes: 9, limit: 8 });
        assert_eq!(line(b"12345678\r\n"), Ok((10, b"12345678".to_vec())));
        assert_eq!(line(b"123456789\n"), too_big);
        assert_eq!(Decoder::default().decode(b"123456789", &LIMITS).map(|_| ()), too_big.clone().map(|_| ()));
        assert_eq!(
            Decoder::default().decode(b"12345678\r", &LIMITS),
            Ok(Decoded::Incomplete { consumed: 0, needed: 10 })
        );
        assert_eq!(Decoder::default().decode(b"12345678\r\r", &LIMITS).map(|_| ()), too_big.map(|_| ()));
    }

    #[test]
    fn a_line_that_is_not_utf8_is_refused_with_the_place() {
        assert_eq!(line(b"ab\xff\n"), Err(ProtocolError::InvalidUtf8 { at: 2 }));
        assert_eq!(line(b"ab\xe2\x82\n"), Err(ProtocolError::InvalidUtf8 { at: 2 }));
    }

    proptest! {
        #[test]
        fn the_search_finds_the_first_newline(text in "[ab\n]{0,200}") {
            let bytes = text.into_bytes();
            prop_assert_eq!(find_newline(&bytes), bytes.iter().position(|byte| *byte == b'\n'));
            let none: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\n').collect();
            prop_assert_eq!(find_newline(&none), None);
        }
    }
}
