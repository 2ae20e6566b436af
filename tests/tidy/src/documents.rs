//! What the documents must hold: the README's two commands, a paragraph for each crate, links that lead somewhere.

use crate::repo::File;

/// All that a new user types.
const COMMANDS: [&str; 2] = ["cargo run --release -- dev examples/02-chat-room", "cargo test --release"];

fn missing_commands(readme: &str) -> Vec<String> {
    let missing =
        COMMANDS.iter().filter(|command| !readme.lines().any(|line| line.trim().starts_with(**command)));
    missing.map(|command| (*command).to_owned()).collect()
}

/// The sections of ARCHITECTURE.md that begin with the folder of a crate in backquotes.
fn crate_sections(architecture: &str) -> Vec<(&str, &str)> {
    let sections = architecture.split("\n### `").skip(1);
    let parts = sections.filter_map(|section| section.split_once('`'));
    parts.map(|(folder, rest)| (folder, rest.split("\n#").next().unwrap_or(rest))).collect()
}

/// Crates without a paragraph, an invariant or an entry file; paragraphs without a crate.
fn broken_architecture(architecture: &str, folders: &[String], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let sections = crate_sections(architecture);
    let mut broken = Vec::new();
    for folder in folders {
        let Some((_, text)) = sections.iter().find(|(known, _)| known == folder) else {
            broken.push(format!("{folder} has no section: ### `{folder}`"));
            continue;
        };
        if !text.contains("**Invariant") {
            broken.push(format!("{folder} has no **Invariant**"));
        }
        let entry = text.split_once("Entry: `").and_then(|(_, rest)| rest.split('`').next());
        match entry {
            None => broken.push(format!("{folder} has no `Entry: `file``")),
            Some(entry) if !exists(&format!("{folder}/{entry}")) => {
                broken.push(format!("{folder}: its entry file {entry} is not there"));
            }
            Some(_) => {}
        }
    }
    let unknown = sections.iter().filter(|(folder, _)| !exists(folder));
    broken.extend(unknown.map(|(folder, _)| format!("{folder} has a section but is not there")));
    broken
}

/// Links between files of the repository that lead nowhere.
fn dead_links(documents: &[File], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut broken = Vec::new();
    for File { path, text } in documents {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = file.is_empty() || file.contains("://") || file.contains(char::is_whitespace);
            if !outside && !exists(&joined(folder, file)) {
                broken.push(format!("{path}: {target}"));
            }
        }
    }
    broken
}

fn joined(folder: &str, file: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

mod tests {
    use super::*;
    use crate::repo::{files, members, refuse, root, text};

    fn exists(path: &str) -> bool {
        root().join(path).exists()
    }

    #[test]
    fn the_readme_has_the_two_commands() {
        refuse("Commands that README.md does not show:", &missing_commands(&text("README.md")));
    }

    #[test]
    fn the_readme_shows_the_chat_plugin_as_it_is() {
        let plugin = text("tests/fixtures/minimal-chat/src/lib.rs");
        assert!(
            !plugin.is_empty() && text("README.md").contains(plugin.trim()),
            "README.md shows another plugin"
        );
    }

    #[test]
    fn the_architecture_has_a_paragraph_for_each_crate() {
        let mut folders: Vec<_> = members().into_iter().map(|package| package.folder).collect();
        folders.push("sdk/rust".to_owned());
        refuse("ARCHITECTURE.md:", &broken_architecture(&text("ARCHITECTURE.md"), &folders, exists));
    }

    #[test]
    fn links_between_documents_lead_somewhere() {
        let documents: Vec<_> = files().into_iter().filter(|file| file.path.ends_with(".md")).collect();
        refuse("Links that lead nowhere:", &dead_links(&documents, exists));
    }

    #[test]
    fn what_the_repository_needs_at_its_root_is_there() {
        let needed = [
            "CHANGELOG.md",
            "LICENSE-MIT",
            "LICENSE-APACHE",
            "deny.toml",
            "clippy.toml",
            "rustfmt.toml",
            ".ci/run",
        ];
        let missing: Vec<_> = needed.iter().filter(|path| !exists(path)).map(ToString::to_string).collect();
        refuse("Missing files:", &missing);
    }

    #[test]
    fn a_readme_without_a_command_is_found() {
        assert_eq!(missing_commands("```\ncargo test --release\n```"), [COMMANDS[0]]);
    }

    #[test]
    fn a_crate_without_paragraph_invariant_or_entry_is_found() {
        let text = "# A\n### `host/a`\n**Invariants**: none. Entry: `src/lib.rs`.\n\n### `host/b`\nText.\n## C\n\
                    **Invariant** Entry: `x`\n### `host/c`\n**Invariant**: x. Entry: `src/gone.rs`\n### `host/old`\n";
        let folders = ["host/a", "host/b", "host/c", "host/d"].map(str::to_owned);
        let exists = |path: &str| !path.contains("gone") && !path.contains("old");
        assert_eq!(
            broken_architecture(text, &folders, exists),
            [
                "host/b has no **Invariant**",
                "host/b has no `Entry: `file``",
                "host/c: its entry file src/gone.rs is not there",
                "host/d has no section: ### `host/d`",
                "host/old has a section but is not there",
            ]
        );
    }

    #[test]
    fn a_dead_link_is_found_and_web_addresses_are_left_alone() {
        let text = "[a](b.md) [c](../d/e.md#f) [g](https://h.example/i) [j](#k)";
        let found = dead_links(&[File::new("docs/x.md", text)], |path| path == "d/e.md");
        assert_eq!(found, ["docs/x.md: b.md"]);
    }
}
