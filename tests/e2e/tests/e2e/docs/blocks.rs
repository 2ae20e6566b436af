//! The blocks of code of a document.

use std::fmt;

/// A block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The document.
    pub page: String,
    /// What stands behind the fence; `indented` for a block without one.
    pub kind: String,
    pub text: String,
}

/// A command, and what the document says that it prints: nothing, if it does not say.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    pub command: String,
    pub output: String,
}

impl Block {
    pub fn begins_with(&self, first: &str) -> bool {
        self.text.trim_start().starts_with(first)
    }

    /// The commands of a shell's block. In one of the kind `console` they stand behind `$ `, and their output below.
    pub fn shown(&self) -> Vec<Shown> {
        let is_console = self.kind == "console";
        let mut all: Vec<Shown> = Vec::new();
        let mut goes_on = false;
        for line in self.text.lines() {
            let command = if is_console { line.strip_prefix("$ ") } else { Some(line) };
            match (command, all.last_mut()) {
                (_, Some(last)) if goes_on => last.command.push_str(&format!("\n{line}")),
                (Some(command), _) if !command.trim().is_empty() => {
                    all.push(Shown { command: command.to_owned(), output: String::new() });
                }
                (None, Some(last)) => last.output.push_str(&format!("{line}\n")),
                _ => {}
            }
            goes_on = line.ends_with('\\');
        }
        all
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.text.trim_start().lines().next().unwrap_or_default();
        write!(f, "{}, the {} block that begins with {first:?}", self.page, self.kind)
    }
}

/// All blocks: those between fences, and in the documents of examples, those of lines that are indented by four spaces.
pub fn of(page: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut fence, mut before_is_blank, mut in_indented) = (None::<String>, true, false);
    for line in text.lines() {
        match (&fence, line.strip_prefix("```")) {
            (None, Some(kind)) => {
                fence = Some(kind.trim().to_owned());
                blocks.push(block(page, kind.trim()));
            }
            (Some(_), Some(_)) => fence = None,
            (Some(_), None) => push_line(&mut blocks, line),
            (None, None) => {
                let indented = line.strip_prefix("    ").filter(|_| before_is_blank || in_indented);
                if let Some(line) = indented.filter(|_| page.starts_with("examples/")) {
                    if !in_indented {
                        blocks.push(block(page, "indented"));
                    }
                    push_line(&mut blocks, line);
                }
                in_indented = indented.is_some();
            }
        }
        before_is_blank = line.trim().is_empty();
    }
    assert!(fence.is_none(), "{page}: a fence is not closed");
    blocks
}

/// Whether something is as expected; `...` stands for anything, nothing for everything.
pub fn is_like(said: &str, expected: &str) -> bool {
    if expected.is_empty() {
        return true;
    }
    let mut parts = expected.split("...");
    let Some(mut rest) = parts.next().and_then(|first| said.strip_prefix(first)) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("")
}

fn block(page: &str, kind: &str) -> Block {
    Block { page: page.to_owned(), kind: kind.to_owned(), text: String::new() }
}

fn push_line(blocks: &mut [Block], line: &str) {
    if let Some(block) = blocks.last_mut() {
        block.text.push_str(line);
        block.text.push('\n');
    }
}

#[test]
fn blocks_are_found_with_their_kinds_commands_and_outputs() {
    let text =
        "Text.\n\n```console\n$ a \\\n   b\nout\n$ c\n```\n\n    indented\n    too\n\n```\nplain\n```\n";
    let found = of("examples/x.md", text);
    let kinds: Vec<_> = found.iter().map(|block| (&*block.kind, &*block.text)).collect();
    assert_eq!(
        kinds,
        [("console", "$ a \\\n   b\nout\n$ c\n"), ("indented", "indented\ntoo\n"), ("", "plain\n")]
    );
    let shown = |command: &str, output: &str| Shown { command: command.into(), output: output.into() };
    assert_eq!(found[0].shown(), [shown("a \\\n   b", "out\n"), shown("c", "")]);
    assert_eq!(found[1].shown(), [shown("indented", ""), shown("too", "")]);
    assert_eq!(of("docs/x.md", text).len(), 2);
}

#[test]
fn dots_stand_for_anything_and_nothing_else_does() {
    for (said, expected) in [("abc", ""), ("abc", "abc"), ("abc", "a...c"), ("abc", "a..."), ("abc", "...c")]
    {
        assert!(is_like(said, expected), "{said} is like {expected}");
    }
    for (said, expected) in [("abc", "ab"), ("abc", "b..."), ("abc", "a...b"), ("abc", "a...d...c")] {
        assert!(!is_like(said, expected), "{said} is not like {expected}");
    }
}
