//! The repository's files and packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::source::Source;

/// Folders that hold nothing anybody wrote.
const SKIPPED: [&str; 4] = ["target", ".git", "data", "node_modules"];

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// A file with its path from the root, `/` between its parts.
#[derive(Debug)]
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// Every file that is text, in order of path.
pub fn files() -> Vec<File> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        // Another test may build or clean up here at the same time: what is gone needs no check.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                let parts = path.strip_prefix(&root).unwrap().iter();
                let path = parts.map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join("/");
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 100, "the files of the repository are not where they are looked for");
    found
}

/// Every Rust source.
pub fn sources() -> Vec<Source> {
    let rust = files().into_iter().filter(|file| file.path.ends_with(".rs"));
    rust.map(|file| Source::read(&file.path, &file.text)).collect()
}

/// A file's text; empty if there is no such file, which the rule that reads it then tells.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// A package: what its Cargo.toml says.
#[derive(Debug)]
pub struct Package {
    /// Its folder from the root.
    pub folder: String,
    pub dependencies: Vec<Dependency>,
}

/// A line of a package's dependencies, of any kind.
#[derive(Debug)]
pub struct Dependency {
    pub name: String,
    /// The folder from the root, if it is a package of this repository.
    pub folder: Option<String>,
    /// Whether only its tests and benchmarks need it.
    pub dev: bool,
}

/// The members of the workspace.
pub fn members() -> Vec<Package> {
    packages("Cargo.toml")
}

/// The packages of all guests: SDK, plugins, examples, fixtures. Each is a workspace of its own.
pub fn guests() -> Vec<Package> {
    let manifests = files().into_iter().filter(|file| {
        let guest = ["sdk/", "plugins/", "examples/", "tests/fixtures/"].iter();
        file.path.ends_with("/Cargo.toml") && guest.clone().any(|folder| file.path.starts_with(folder))
    });
    manifests.flat_map(|file| packages(&file.path)).collect()
}

fn packages(manifest: &str) -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1", "--manifest-path"])
        .arg(root().join(manifest))
        .output()
        .unwrap();
    assert!(output.status.success(), "{manifest}: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

fn package(package: &Value) -> Package {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    let dependency = |dependency: &Value| Dependency {
        name: dependency["name"].as_str().unwrap().to_owned(),
        folder: dependency["path"].as_str().map(|path| from_root(Path::new(path))),
        dev: dependency["kind"] == "dev",
    };
    Package {
        folder: from_root(manifest.parent().unwrap()),
        dependencies: package["dependencies"].as_array().unwrap().iter().map(dependency).collect(),
    }
}

fn from_root(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_str().unwrap().to_owned()
}

/// Fails with everything that breaks a rule, and the rule.
#[track_caller]
pub fn refuse(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}\n  {}", broken.join("\n  "));
}
