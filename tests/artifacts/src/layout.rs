//! Where plugins are in the repository.

use std::path::{Path, PathBuf};

/// A plugin of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// The name that [`crate::plugin`] takes: of an example without its number, of a variant after its fixture's.
    pub name: String,
    /// `fixture`, `example` or `plugin`.
    pub kind: &'static str,
    /// The folder of its Cargo.toml.
    pub folder: PathBuf,
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.ancestors().nth(2).unwrap_or(crate_folder).to_owned()
}

/// The target folder of the surrounding cargo, which has put the running test below it.
pub(crate) fn target_dir() -> PathBuf {
    let running = std::env::current_exe().unwrap_or_default();
    // A file that cargo writes into every target folder, also into one that was there before.
    let marked = running.ancestors().find(|folder| folder.join(".rustc_info.json").is_file());
    marked.map_or_else(|| root().join("target"), Path::to_owned)
}

/// `examples/NN-NAME/plugin`, in the order of their numbers.
pub(crate) fn examples(root: &Path) -> Vec<Plugin> {
    folders(&root.join("examples"))
        .into_iter()
        .filter_map(|(folder_name, folder)| {
            let (number, name) = folder_name.split_once('-')?;
            let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            plugin("example", name, folder.join("plugin")).filter(|_| numbered)
        })
        .collect()
}

/// `tests/fixtures/NAME`, each followed by its `variants/VARIANT`, which are called `NAME-VARIANT`.
pub(crate) fn fixtures(root: &Path) -> Vec<Plugin> {
    let with_variants = |fixture: Plugin| {
        let variants = folders(&fixture.folder.join("variants"));
        let name = fixture.name.clone();
        let variants = variants
            .into_iter()
            .filter_map(move |(variant, folder)| plugin("fixture", &format!("{name}-{variant}"), folder));
        std::iter::once(fixture).chain(variants)
    };
    named(&root.join("tests/fixtures"), "fixture").into_iter().flat_map(with_variants).collect()
}

/// `plugins/NAME`.
pub(crate) fn first_party(root: &Path) -> Vec<Plugin> {
    named(&root.join("plugins"), "plugin")
}

/// The plugin of this name; the reason if there is none.
pub(crate) fn find(root: &Path, name: &str) -> Result<Plugin, String> {
    let mut known = fixtures(root);
    known.extend(examples(root));
    known.extend(first_party(root));
    let names = known.iter().map(|plugin| plugin.name.as_str()).collect::<Vec<_>>().join(", ");
    known.into_iter().find(|plugin| plugin.name == name).ok_or_else(|| {
        format!("not in tests/fixtures, examples or plugins of {}; there are: {names}", root.display())
    })
}

fn named(folder: &Path, kind: &'static str) -> Vec<Plugin> {
    folders(folder).into_iter().filter_map(|(name, folder)| plugin(kind, &name, folder)).collect()
}

fn plugin(kind: &'static str, name: &str, folder: PathBuf) -> Option<Plugin> {
    folder.join("Cargo.toml").is_file().then(|| Plugin { name: name.to_owned(), kind, folder })
}

/// The folders in a folder by name; none if there is no such folder.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut folders: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_has_examples_that_are_found_by_name_without_number() {
        let examples = examples(&root());
        assert_eq!(examples[0].name, "echo");
        assert_eq!(find(&root(), "echo").unwrap(), examples[0]);
        assert!(examples[0].folder.ends_with("examples/01-echo/plugin"));
    }

    #[test]
    fn fixtures_are_found_by_the_name_of_their_folder() {
        for fixture in fixtures(&root()) {
            assert_eq!(find(&root(), &fixture.name).unwrap(), fixture);
        }
    }

    #[test]
    fn variants_of_a_fixture_are_found_by_its_name_and_theirs() {
        let second = find(&root(), "versioned-v2").unwrap();
        assert!(second.folder.ends_with("tests/fixtures/versioned/variants/v2"));
        assert!(find(&root(), "versioned-core").is_err());
    }

    #[test]
    fn the_target_folder_is_that_of_the_running_test() {
        let running = std::env::current_exe().unwrap();
        assert!(running.starts_with(target_dir()));
    }
}
