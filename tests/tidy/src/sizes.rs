//! Files and functions that can be read in one go. Exceptions are named with their size and can only shrink.

use crate::source::{Function, Source};

/// Lines of a file, without what is behind `#[cfg(test)]`; files of tests are not counted.
const FILE_LINES_MAX: usize = 500;

/// Lines of a function, from its `fn` to its last brace; a test may be a long table of cases.
const FUNCTION_LINES_MAX: usize = 70;

/// Longer files: path, lines now.
const LONG_FILES: [(&str, usize); 0] = [];

/// Longer functions: `path:name`, lines now.
const LONG_FUNCTIONS: [(&str, usize); 0] = [];

/// What is longer than its limit or its exception; and exceptions that are larger than they need to be.
fn too_long(found: &[(String, usize)], max: usize, exceptions: &[(&str, usize)]) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, lines) in found {
        let exception = exceptions.iter().find(|(known, _)| known == name).map(|(_, lines)| *lines);
        if *lines > exception.unwrap_or(max) {
            broken.push(format!("{name} has {lines} lines, {} are allowed", exception.unwrap_or(max)));
        }
    }
    for (name, allowed) in exceptions {
        let lines =
            found.iter().filter(|(known, _)| known == name).map(|(_, lines)| *lines).max().unwrap_or(0);
        if lines < *allowed {
            broken.push(format!(
                "the exception for {name} allows {allowed} lines, {lines} are needed: shrink it"
            ));
        }
    }
    broken
}

fn file_lines(sources: &[Source]) -> Vec<(String, usize)> {
    let counted = sources.iter().filter(|source| !source.is_test());
    counted.map(|source| (source.path.clone(), source.lines_outside_tests())).collect()
}

fn function_lines(sources: &[Source]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let tests = source.tests();
        let outside = |function: &Function| !tests.iter().any(|place| place.contains(&function.at));
        let functions = source.functions().into_iter().filter(outside);
        found.extend(functions.map(|f| (format!("{}:{}", source.path, f.name), f.lines.len())));
    }
    found
}

mod tests {
    use super::*;
    use crate::repo::{refuse, sources};

    #[test]
    fn files_stay_readable() {
        refuse("Files that are too long:", &too_long(&file_lines(&sources()), FILE_LINES_MAX, &LONG_FILES));
    }

    #[test]
    fn functions_stay_readable() {
        let lines = function_lines(&sources());
        assert!(lines.len() > 1_000, "functions are found");
        refuse("Functions that are too long:", &too_long(&lines, FUNCTION_LINES_MAX, &LONG_FUNCTIONS));
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let long = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "//\n".repeat(501), "//\n".repeat(300));
        let found =
            file_lines(&[Source::read("host/a/src/b.rs", &long), Source::read("host/a/tests/b.rs", &long)]);
        assert_eq!(found, [("host/a/src/b.rs".to_owned(), 501)]);
        assert_eq!(too_long(&found, 500, &[]), ["host/a/src/b.rs has 501 lines, 500 are allowed"]);
    }

    #[test]
    fn a_long_function_is_found_to_the_line() {
        let function = |inside: usize| format!("fn f() {{\n{}}}\n", "g();\n".repeat(inside));
        let test = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(90));
        let sources = [("a.rs", function(68)), ("b.rs", function(69)), ("c.rs", test)];
        let sources = sources.map(|(path, text)| Source::read(path, &text));
        assert_eq!(too_long(&function_lines(&sources), 70, &[]), ["b.rs:f has 71 lines, 70 are allowed"]);
    }

    #[test]
    fn an_exception_holds_to_its_size_and_must_shrink_with_what_it_allows() {
        let found = [("a.rs".to_owned(), 600)];
        assert!(too_long(&found, 500, &[("a.rs", 600)]).is_empty());
        assert_eq!(too_long(&found, 500, &[("a.rs", 599)]).len(), 1);
        assert_eq!(too_long(&found, 500, &[("a.rs", 601)]).len(), 1);
        assert_eq!(too_long(&found, 500, &[("a.rs", 600), ("gone.rs", 1)]).len(), 1);
    }
}
