//! What every crate has: the workspace's lints, a header, and a `main` that starts nothing clever.

use crate::repo::File;

const MAIN_LINES_MAX: usize = 40;

/// Manifests of members that do not take the workspace's lints.
fn without_lints(manifests: &[File]) -> Vec<String> {
    let takes = |text: &str| {
        let squeezed: Vec<_> = text.lines().map(|line| line.replace(' ', "")).collect();
        let table = squeezed.windows(2).any(|pair| pair[0] == "[lints]" && pair[1] == "workspace=true");
        table || squeezed.iter().any(|line| line == "lints.workspace=true")
    };
    manifests.iter().filter(|file| !takes(&file.text)).map(|file| file.path.clone()).collect()
}

/// Crate roots that do not begin with what the crate is: in words of their own or those of their README.
fn without_header(roots: &[File]) -> Vec<String> {
    let says = |text: &str| text.starts_with("//! ") || text.starts_with("#![doc = include_str!(");
    roots.iter().filter(|file| !says(&file.text)).map(|file| file.path.clone()).collect()
}

fn long_mains(files: &[File]) -> Vec<String> {
    let mains = files.iter().filter(|file| file.path.ends_with("src/main.rs"));
    let lines = mains.map(|file| (file, file.text.lines().count()));
    let long = lines.filter(|(_, lines)| *lines > MAIN_LINES_MAX);
    long.map(|(file, lines)| format!("{} has {lines} lines, {MAIN_LINES_MAX} are allowed", file.path))
        .collect()
}

/// Tests whose names are no sentences: at least three words.
fn curt_tests(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for File { path, text } in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            let name =
                line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            match name {
                Some(name) if marked && name.split('_').filter(|word| !word.is_empty()).count() < 3 => {
                    broken.push(format!("{path}: {name}"));
                }
                _ => {}
            }
            let attribute = line.starts_with("#[");
            marked = line == "#[test]" || line.starts_with("#[tokio::test") || (marked && attribute);
        }
    }
    broken
}

mod tests {
    use super::*;
    use crate::repo::{files, guests, members, refuse, text};

    fn manifests() -> Vec<File> {
        let paths = members().into_iter().map(|package| format!("{}/Cargo.toml", package.folder));
        paths.map(|path| File::new(&path, &text(&path))).collect()
    }

    fn roots() -> Vec<File> {
        let packages = members().into_iter().chain(guests());
        let root = |folder: String| {
            let paths = ["lib.rs", "main.rs"].map(|name| format!("{folder}/src/{name}"));
            let found =
                paths.iter().map(|path| File::new(path, &text(path))).find(|file| !file.text.is_empty());
            found.unwrap_or_else(|| File::new(&folder, ""))
        };
        packages.map(|package| root(package.folder)).collect()
    }

    #[test]
    fn every_crate_takes_the_lints_of_the_workspace() {
        refuse("Crates without `lints.workspace = true`:", &without_lints(&manifests()));
    }

    #[test]
    fn every_crate_says_what_it_is() {
        let mut broken = without_header(&roots());
        // The README shows this one whole, and twenty lines is what it is about.
        broken.retain(|path| path != "tests/fixtures/minimal-chat/src/lib.rs");
        refuse("Crates that do not begin with a `//!` header:", &broken);
    }

    #[test]
    fn main_starts_nothing_clever() {
        refuse("Startup belongs into a library:", &long_mains(&files()));
    }

    #[test]
    fn the_names_of_tests_are_sentences() {
        refuse("Tests whose names do not say what holds:", &curt_tests(&files()));
    }

    #[test]
    fn a_manifest_without_lints_is_found() {
        let table = File::new("a", "[package]\n[lints]\nworkspace = true\n");
        let key = File::new("b", "[package]\nlints.workspace = true\n");
        let none = File::new("c", "[package]\nedition.workspace = true\n[lints]\n[lints.rust]\n");
        assert_eq!(without_lints(&[table, key, none]), ["c"]);
    }

    #[test]
    fn a_crate_without_a_header_is_found() {
        let files = [File::new("a", "//! It is.\n"), File::new("b", "use x;\n"), File::new("c", "")];
        assert_eq!(without_header(&files), ["b", "c"]);
    }

    #[test]
    fn a_long_main_is_found_to_the_line() {
        let files = [40, 41].map(|lines| File::new("host/cli/src/main.rs", &"x\n".repeat(lines)));
        assert_eq!(long_mains(&files), ["host/cli/src/main.rs has 41 lines, 40 are allowed"]);
    }

    #[test]
    fn a_curt_test_name_is_found() {
        let text = "#[test]\nfn works() {}\n#[test]\n#[should_panic]\nfn also_works() {}\nfn help() {}\n\
                    #[tokio::test]\nasync fn it() {}\n#[test]\nfn a_sentence_is_fine() {}\n";
        assert_eq!(curt_tests(&[File::new("a.rs", text)]), ["a.rs: works", "a.rs: also_works", "a.rs: it"]);
    }
}
