//! What the documents show is run: each block of code is executed or checked by a story, or stands in a list with the reason why
//! not.

mod benchmarking;
mod blocks;
mod covered;
mod deploying;
mod libraries;
mod plugins;
mod push;
mod settings;
mod steering;
mod tenants;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tidegate_harness::binary;

use blocks::{Block, Shown};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A document, by its path in the repository.
fn text(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap()
}

/// The block of this document that begins so.
fn block(page: &str, first: &str) -> Block {
    let of_page = blocks::of(page, &text(page));
    let found = of_page.into_iter().find(|block| block.begins_with(first));
    found.unwrap_or_else(|| panic!("{page} has no block that begins with {first:?}"))
}

/// Replaces what the document says by what it is here: addresses and names.
type Here<'a> = &'a [(&'a str, &'a str)];

fn here(text: &str, here: Here) -> String {
    here.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
}

/// Runs the commands of a block one after the other in one shell, `tidegate` being the one under test. Each must end well, and
/// say what the document says that it does.
fn runs(block: &Block, folder: &Path, as_here: Here) {
    let path = std::env::var("PATH").unwrap();
    let own = binary().parent().unwrap().display().to_string();
    let shown = block.shown();
    let mut script = "set -eu\n".to_owned();
    for Shown { command, .. } in &shown {
        // Standard output is the document's business, a mark between two commands ours.
        script.push_str(&format!("{}\nprintf '\\n{MARK}\\n'\n", here(command, as_here)));
    }
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder)
        .env("PATH", format!("{own}:{path}"))
        .env_remove("TIDEGATE_TOKEN")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{block}: {stdout}{stderr}");
    for (Shown { command, output: expected }, said) in shown.iter().zip(stdout.split(MARK)) {
        let expected = here(expected, as_here);
        assert!(
            blocks::is_like(said.trim(), expected.trim()),
            "{block}: {command} says {said}, not {expected}"
        );
    }
}

const MARK: &str = "==== the next command ====";
