//! Which packages a plugin is made of on this machine: itself, and every path dependency.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::files::canonical;

/// More packages than this are not followed.
const PACKAGES_MAX: usize = 1_000;

/// The folder of the package at `folder`, and those of its path dependencies and theirs. What cannot be read at the
/// moment, such as a manifest that somebody is writing, has no dependencies.
pub(super) fn package_folders(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![canonical(folder)];
    while let Some(folder) = open.pop() {
        if found.len() < PACKAGES_MAX && found.insert(folder.clone()) {
            open.extend(path_dependencies(&folder));
        }
    }
    found
}

fn path_dependencies(folder: &Path) -> Vec<PathBuf> {
    let Some(manifest) = read(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for table in dependency_tables(&manifest) {
        for (name, dependency) in table {
            if is_of_workspace(dependency) {
                found.extend(of_workspace(folder, name));
            } else {
                found.extend(path_of(folder, dependency));
            }
        }
    }
    found.iter().filter(|folder| folder.is_dir()).map(|folder| canonical(folder)).collect()
}

/// The tables of a manifest whose entries end up in a component: not those for its tests.
fn dependency_tables(manifest: &Table) -> Vec<&Table> {
    let tables = |name: &str| {
        let table = manifest.get(name).and_then(Value::as_table);
        table.into_iter().flat_map(Table::values).filter_map(Value::as_table)
    };
    std::iter::once(manifest).chain(tables("target")).flat_map(dependencies).chain(tables("patch")).collect()
}

fn dependencies(table: &Table) -> impl Iterator<Item = &Table> {
    ["dependencies", "build-dependencies"].into_iter().filter_map(|name| table.get(name)?.as_table())
}

fn is_of_workspace(dependency: &Value) -> bool {
    dependency.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// The path of a dependency that a workspace above defines.
fn of_workspace(folder: &Path, name: &str) -> Option<PathBuf> {
    folder.ancestors().find_map(|root| {
        let manifest = read(root)?;
        path_of(root, manifest.get("workspace")?.get("dependencies")?.get(name)?)
    })
}

fn path_of(folder: &Path, dependency: &Value) -> Option<PathBuf> {
    Some(folder.join(dependency.get("path")?.as_str()?))
}

fn read(folder: &Path) -> Option<Table> {
    std::fs::read_to_string(folder.join("Cargo.toml")).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::testing::TempDir;

    fn names(dir: &TempDir, folder: &str) -> Vec<String> {
        let found = package_folders(&dir.path().join(folder));
        let name = |folder: &PathBuf| folder.strip_prefix(dir.path()).unwrap().display().to_string();
        found.iter().map(name).collect()
    }

    #[test]
    fn path_dependencies_are_followed_wherever_they_are_written() {
        let dir = TempDir::new();
        dir.write(
            "p/Cargo.toml",
            "[dependencies]\nserde = \"1\"\na = { path = \"../a\" }\ns.workspace = true\n\
             [target.'cfg(unix)'.build-dependencies]\nb = { path = \"../b\", version = \"1\" }\n\
             [dev-dependencies]\ntests = { path = \"../tests\" }\n[patch.crates-io]\nc = { path = \"../c\" }\n",
        );
        dir.write("Cargo.toml", "[workspace.dependencies]\ns = { path = \"shared\" }\n");
        // In a circle, and to a folder that is not there.
        dir.write(
            "a/Cargo.toml",
            "[dependencies]\np = { path = \"../p\" }\nd = { path = \"deep/d\" }\nx = { path = \"x\" }\n",
        );
        for name in ["a/deep/d", "b", "c", "shared", "tests"] {
            dir.write(&format!("{name}/Cargo.toml"), "[package]\n");
        }
        assert_eq!(names(&dir, "p"), ["a", "a/deep/d", "b", "c", "p", "shared"]);
    }

    #[test]
    fn a_broken_manifest_has_no_dependencies() {
        let dir = TempDir::new();
        dir.write("p/Cargo.toml", "[dependencies\na = { path = \"../a\" }\n");
        assert_eq!(names(&dir, "p"), ["p"]);
        assert_eq!(names(&dir, "missing"), ["missing"]);
    }
}
