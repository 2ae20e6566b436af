//! Just enough reading of Rust: what is code, what is a string, where tests are, where functions begin and end.

use std::ops::Range;

/// A Rust file.
#[derive(Debug)]
pub struct Source {
    pub path: String,
    pub text: String,
    /// The text with blanks for comments and for what strings hold, byte for byte.
    pub code: String,
    /// What strings hold, with the place of their first byte.
    pub strings: Vec<(usize, String)>,
}

/// A function with a body.
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: String,
    /// The place of its `fn`.
    pub at: usize,
    /// Its lines, from 1.
    pub lines: Range<usize>,
}

impl Source {
    pub fn read(path: &str, text: &str) -> Self {
        let mut reader = Reader { rest: text, at: 0, code: String::new(), strings: Vec::new() };
        while reader.step() {}
        let Reader { code, strings, .. } = reader;
        assert_eq!(code.len(), text.len(), "{path} is read byte for byte");
        Self { path: path.to_owned(), text: text.to_owned(), code, strings }
    }

    /// The line of a place, from 1.
    pub fn line(&self, at: usize) -> usize {
        1 + self.text[..at].matches('\n').count()
    }

    /// Whether the whole file is a test or a benchmark.
    pub fn is_test(&self) -> bool {
        let mut parts = self.path.split('/').rev();
        let name = parts.next().unwrap_or_default();
        name == "tests.rs" || parts.any(|folder| folder == "tests" || folder == "benches")
    }

    /// The places of everything behind `#[cfg(test)]`.
    pub fn tests(&self) -> Vec<Range<usize>> {
        let marks = self.code.match_indices("#[cfg(test)]");
        marks.filter_map(|(at, mark)| Some(at..self.body(at + mark.len())?.end)).collect()
    }

    /// How many lines are not behind `#[cfg(test)]`.
    pub fn lines_outside_tests(&self) -> usize {
        let all = self.text.lines().count();
        let tests: usize =
            self.tests().iter().map(|place| self.line(place.end) - self.line(place.start) + 1).sum();
        all.saturating_sub(tests)
    }

    /// The functions, nested ones too.
    pub fn functions(&self) -> Vec<Function> {
        let words = self.words("fn");
        let function = |at: usize| {
            let name: String = self.code[at + 2..].trim_start().chars().take_while(|c| is_word(*c)).collect();
            let body = self.body(at).filter(|_| !name.is_empty())?;
            Some(Function { name, at, lines: self.line(at)..self.line(body.end) + 1 })
        };
        words.into_iter().filter_map(function).collect()
    }

    /// The places in the code where this stands as a whole word (or path).
    pub fn words(&self, word: &str) -> Vec<usize> {
        let whole = |at: &usize| {
            let before = self.code[..*at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            let ends = |c: Option<char>| !c.is_some_and(is_word);
            (ends(before) || !word.starts_with(is_word)) && (ends(after) || !word.ends_with(is_word))
        };
        self.code.match_indices(word).map(|(at, _)| at).filter(whole).collect()
    }

    /// The braces that the item at this place has; nothing if it ends with a semicolon.
    pub fn body(&self, at: usize) -> Option<Range<usize>> {
        let (mut braces, mut others, mut start) = (0_usize, 0_usize, None);
        for (offset, c) in self.code[at..].char_indices() {
            match c {
                '(' | '[' => others += 1,
                ')' | ']' => others = others.saturating_sub(1),
                ';' if braces == 0 && others == 0 => return None,
                '{' => {
                    start = start.or(Some(at + offset));
                    braces += 1;
                }
                '}' => {
                    braces = braces.checked_sub(1)?;
                    if braces == 0 {
                        return start.map(|start| start..at + offset);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Reader<'a> {
    rest: &'a str,
    at: usize,
    code: String,
    strings: Vec<(usize, String)>,
}

impl Reader<'_> {
    /// Reads a comment, a string, a character or one byte of code; false at the end.
    fn step(&mut self) -> bool {
        if self.rest.starts_with("//") {
            let len = self.rest.find('\n').unwrap_or(self.rest.len());
            self.blank(len);
        } else if self.rest.starts_with("/*") {
            self.blank(block_comment(self.rest));
        } else if let Some((open, hashes)) = string_start(self.rest, self.code.chars().next_back()) {
            self.string(open, hashes);
        } else if let Some(len) = character(self.rest) {
            self.blank(len);
        } else if let Some(c) = self.rest.chars().next() {
            self.keep(c.len_utf8());
        } else {
            return false;
        }
        true
    }

    fn string(&mut self, open: usize, hashes: Option<usize>) {
        self.keep(open);
        let close = match hashes {
            Some(hashes) => self.rest.find(&format!("\"{}", "#".repeat(hashes))).unwrap_or(self.rest.len()),
            None => plain_string(self.rest),
        };
        self.strings.push((self.at, self.rest[..close].to_owned()));
        self.blank(close);
        self.keep((1 + hashes.unwrap_or(0)).min(self.rest.len()));
    }

    fn keep(&mut self, len: usize) {
        let (kept, rest) = self.rest.split_at(len);
        self.code.push_str(kept);
        (self.rest, self.at) = (rest, self.at + len);
    }

    fn blank(&mut self, len: usize) {
        let (blanked, rest) = self.rest.split_at(len);
        self.code.extend(blanked.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        (self.rest, self.at) = (rest, self.at + len);
    }
}

/// The length of a block comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of what opens a string here, with the hashes of a raw one.
fn string_start(text: &str, before: Option<char>) -> Option<(usize, Option<usize>)> {
    if text.starts_with('"') {
        return Some((1, None));
    }
    if before.is_some_and(is_word) {
        return None;
    }
    let prefix = ["br", "cr", "r", "b", "c"].into_iter().find(|prefix| text.starts_with(prefix))?;
    let rest = &text[prefix.len()..];
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    let raw = prefix.ends_with('r');
    let opens = rest[hashes..].starts_with('"') && (raw || hashes == 0);
    opens.then(|| (prefix.len() + hashes + 1, raw.then_some(hashes)))
}

/// Up to the quote that ends a plain string.
fn plain_string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.unwrap_or(text.len())
}

/// The length of a character literal here; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    let len = if first == '\\' {
        // The escaped character may be a quote.
        2 + inside.get(2..)?.find('\'')?
    } else {
        first.len_utf8()
    };
    inside.get(len..)?.starts_with('\'').then_some(1 + len + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::read("x.rs", text).code
    }

    #[test]
    fn comments_and_strings_are_blanked_and_code_stays() {
        assert_eq!(code("a // fn b {\nc"), "a          \nc");
        assert_eq!(code("a /* x /* y */ { */ b"), format!("a {} b", " ".repeat(17)));
        assert_eq!(code(r#"f("a{\"b", b"{", 'x')"#), r#"f("     ", b" ",    )"#);
        assert_eq!(code(r##"r#"{"}"# }"##), r##"r#"   "# }"##);
    }

    #[test]
    fn a_lifetime_is_not_a_character_and_a_raw_name_not_a_string() {
        assert_eq!(code("fn f<'a>(r#type: &'a str) {}"), "fn f<'a>(r#type: &'a str) {}");
        assert_eq!(
            code(r"['\'', '{', '\u{7f}', 'é', '\\']"),
            format!("[{}]", blanks(r"'\'', '{', '\u{7f}', 'é', '\\'"))
        );
    }

    fn blanks(text: &str) -> String {
        text.bytes().map(|byte| if byte == b',' { ',' } else { ' ' }).collect()
    }

    #[test]
    fn strings_are_found_with_their_place() {
        let source = Source::read("x.rs", "f(\"one\", r#\"two\"#)");
        assert_eq!(source.strings, [(3, "one".to_owned()), (12, "two".to_owned())]);
    }

    #[test]
    fn functions_have_their_lines_and_declarations_are_none() {
        let text = "trait T { fn a(&self); }\nfn b(x: [u8; 2]) {\n  if x { \"}\" }\n}\ntype F = fn(u8);\n";
        let functions = Source::read("x.rs", text).functions();
        assert_eq!(functions, [Function { name: "b".to_owned(), at: 25, lines: 2..5 }]);
    }

    #[test]
    fn lines_behind_cfg_test_do_not_count() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\n#[cfg(test)]\nmod more;\nfn c() {}\n";
        assert_eq!(Source::read("x.rs", text).lines_outside_tests(), 4);
    }

    #[test]
    fn a_word_is_found_whole_and_only_in_code() {
        let source = Source::read("x.rs", "todo!(); my_todo!(); // todo!()\n\"todo!\"");
        assert_eq!(source.words("todo!"), [0]);
    }

    #[test]
    fn test_files_are_known_by_their_place() {
        let is_test = |path: &str| Source::read(path, "").is_test();
        assert!(
            is_test("host/a/tests/b.rs")
                && is_test("host/a/src/tests.rs")
                && is_test("host/a/src/tests/c.rs")
        );
        assert!(!is_test("host/a/src/testing.rs") && is_test("tests/e2e/src/lib.rs"));
    }
}
