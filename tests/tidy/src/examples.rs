//! Examples are executed, not admired: each is explained, can be run in one process and in three, and has a test.

/// What an example's folder must hold.
const NEEDED: [&str; 6] = [
    "README.md",
    "plugin/Cargo.lock",
    "tidegate.toml",
    "cluster/register.toml",
    "cluster/gateway.toml",
    "cluster/worker.toml",
];

/// Settings for other programs, of which nothing is compiled: without a number.
const SETTINGS: [&str; 2] = ["monitoring", "systemd"];

/// What a reader takes in at a glance.
const README_LINES_MAX: usize = 40;

/// The files that an example does not have.
fn missing_files(example: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let paths = NEEDED.iter().map(|name| format!("examples/{example}/{name}"));
    paths.filter(|path| !exists(path)).collect()
}

/// The examples that no end-to-end test names.
fn untested(examples: &[String], tests: &[String]) -> Vec<String> {
    let tested = |example: &&String| tests.iter().any(|text| text.contains(*example));
    examples.iter().filter(|example| !tested(example)).cloned().collect()
}

mod tests {
    use super::*;
    use crate::repo::{files, refuse, root, text};

    fn examples() -> Vec<String> {
        let entries = std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap());
        let folders = entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
        let mut names: Vec<_> = folders.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| !SETTINGS.contains(&&**name));
        names.sort();
        names
    }

    #[test]
    fn examples_are_numbered_as_a_path_to_walk() {
        for (at, name) in examples().iter().enumerate() {
            assert!(name.starts_with(&format!("{:02}-", at + 1)), "{name} is example number {}", at + 1);
        }
    }

    #[test]
    fn every_example_is_explained_and_can_be_run_in_one_process_and_in_three() {
        let missing: Vec<_> = examples()
            .iter()
            .flat_map(|name| missing_files(name, |path| root().join(path).exists()))
            .collect();
        refuse("Files that an example needs:", &missing);
    }

    #[test]
    fn the_explanation_of_an_example_is_short() {
        for name in examples().into_iter().chain(SETTINGS.map(str::to_owned)) {
            let lines = text(&format!("examples/{name}/README.md")).lines().count();
            assert!(lines <= README_LINES_MAX, "examples/{name}/README.md has {lines} lines");
        }
    }

    #[test]
    fn every_example_is_run_by_an_end_to_end_test() {
        let tests = files().into_iter().filter(|file| file.path.starts_with("tests/e2e/tests/"));
        let tests: Vec<_> = tests.filter(|file| file.path.ends_with(".rs")).map(|file| file.text).collect();
        refuse(
            "Examples that no file of tests/e2e/tests names:",
            &untested(&[examples(), SETTINGS.map(str::to_owned).to_vec()].concat(), &tests),
        );
    }

    #[test]
    fn an_example_without_its_files_or_without_a_test_is_found() {
        assert_eq!(missing_files("01-a", |path| !path.ends_with("README.md")), ["examples/01-a/README.md"]);
        let examples = ["01-a".to_owned(), "02-b".to_owned()];
        assert_eq!(untested(&examples, &["run(\"01-a\")".to_owned()]), ["02-b"]);
    }
}
