//! Writes a new plugin project from a template, with the SDK beside it.

use std::path::{Path, PathBuf};

/// Where a project keeps the SDK, relative to its folder.
const SDK_FOLDER: &str = ".tidegate/sdk";

/// As many as an app's name may have.
const NAME_CHARS_MAX: usize = 63;

/// The files of a project. `{{name}}` in them stands for its name.
const TEMPLATE: [(&str, &str); 6] = [
    (".gitignore", include_str!("../template/gitignore")),
    ("README.md", include_str!("../template/README.md")),
    ("tidegate.toml", include_str!("../template/tidegate.toml")),
    ("plugin/Cargo.toml", include_str!("../template/plugin/Cargo.toml.in")),
    ("plugin/src/lib.rs", include_str!("../template/plugin/src/lib.rs")),
    ("web/index.html", include_str!("../template/web/index.html")),
];

mod sdk {
    include!(concat!(env!("OUT_DIR"), "/sdk_files.rs"));
}

/// A project that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its folder; the plugin is in `plugin/`, the page in `web/`, the settings are in `tidegate.toml`.
    pub folder: PathBuf,
}

/// Why a project is not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewError {
    /// The name is not one that an app can have.
    #[error(
        "`{name}` cannot be the name of a plugin: {problem}; take 1 to {NAME_CHARS_MAX} characters of a-z, 0-9 and -, \
         beginning with a letter, such as `chat-room`"
    )]
    BadName {
        /// The name that was given.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is something in the way.
    #[error("{} exists already and is not empty; take another name, or remove it first", folder.display())]
    Exists {
        /// The folder or file.
        folder: PathBuf,
    },
    /// A file could not be written.
    #[error("cannot write {}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        error: std::io::Error,
    },
}

/// Make a project in the new (or empty) folder `name` inside of `parent`. It is made under another name and renamed, so
/// that a failure leaves nothing half-made.
///
/// # Errors
/// See [`NewError`].
pub fn create(name: &str, parent: &Path) -> Result<Created, NewError> {
    if let Some(problem) = problem_of(name) {
        return Err(NewError::BadName { name: name.to_owned(), problem });
    }
    let folder = parent.join(name);
    if is_in_the_way(&folder) {
        return Err(NewError::Exists { folder });
    }
    let making = parent.join(format!(".{name}.{}.new", std::process::id()));
    let written = write_project(name, &making).and_then(|()| {
        std::fs::rename(&making, &folder).map_err(|error| NewError::Io { path: folder.clone(), error })
    });
    if written.is_err() {
        let _ = std::fs::remove_dir_all(&making);
    }
    written.map(|()| Created { folder })
}

fn problem_of(name: &str) -> Option<String> {
    if name.chars().count() > NAME_CHARS_MAX {
        return Some("it is too long".to_owned());
    }
    match name.chars().next() {
        None => return Some("it is empty".to_owned()),
        Some('a'..='z') => {}
        Some(first) => return Some(format!("it begins with `{}`", first.escape_default())),
    }
    let odd = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-'));
    odd.map(|c| format!("it has a `{}`", c.escape_default()))
}

/// An empty folder is not in the way: people make one and then say what it is for.
fn is_in_the_way(folder: &Path) -> bool {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => folder.symlink_metadata().is_ok(),
    }
}

fn write_project(name: &str, folder: &Path) -> Result<(), NewError> {
    for (file, text) in TEMPLATE {
        write(&folder.join(file), text.replace("{{name}}", name).as_bytes())?;
    }
    for (file, bytes) in sdk::SDK_FILES {
        write(&folder.join(SDK_FOLDER).join(file), bytes)?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), NewError> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(path, bytes))
        .map_err(|error| NewError::Io { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::files::testing::TempDir;

    #[test]
    fn a_project_has_a_plugin_a_page_settings_and_the_sdk() {
        let dir = TempDir::new();
        let created = create("chat-room", dir.path()).unwrap();
        assert_eq!(created.folder, dir.path().join("chat-room"));
        let read = |file: &str| std::fs::read_to_string(created.folder.join(file)).unwrap();
        assert!(read("plugin/Cargo.toml").contains("name = \"chat-room-plugin\""));
        assert!(read("tidegate.toml").contains("name = \"chat-room\""));
        assert!(read("web/index.html").contains("<title>chat-room</title>"));
        assert!(read(".tidegate/sdk/wit/plugin.wit").contains("package tidegate:plugin"));
        assert!(read(".tidegate/sdk/rust/Cargo.toml").contains("name = \"tidegate-sdk\""));
        assert!(read(".tidegate/sdk/rust/macros/Cargo.toml").contains("tidegate-macros"));
        assert!(!created.folder.join(".tidegate/sdk/rust/target").exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn no_file_of_the_template_keeps_a_placeholder() {
        let dir = TempDir::new();
        let created = create("x", dir.path()).unwrap();
        for (file, _) in TEMPLATE {
            assert!(!std::fs::read_to_string(created.folder.join(file)).unwrap().contains("{{"), "{file}");
        }
    }

    #[test]
    fn the_settings_and_the_manifest_are_valid_toml() {
        let dir = TempDir::new();
        let created = create("x", dir.path()).unwrap();
        for file in ["tidegate.toml", "plugin/Cargo.toml"] {
            let text = std::fs::read_to_string(created.folder.join(file)).unwrap();
            toml::from_str::<toml::Table>(&text).unwrap();
        }
        assert!(crate::project::locate(&created.folder).is_ok());
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let dir = TempDir::new();
        let mine = dir.write("chat/mine", "mine");
        assert!(matches!(create("chat", dir.path()), Err(NewError::Exists { .. })));
        dir.write("file", "mine");
        assert!(matches!(create("file", dir.path()), Err(NewError::Exists { .. })));
        assert_eq!(std::fs::read_to_string(mine).unwrap(), "mine");
    }

    #[test]
    fn an_empty_folder_is_filled() {
        let dir = TempDir::new();
        std::fs::create_dir(dir.path().join("chat")).unwrap();
        assert!(create("chat", dir.path()).is_ok());
    }

    #[test]
    fn a_parent_that_cannot_be_written_is_named() {
        let dir = TempDir::new();
        let file = dir.write("file", "");
        let error = create("chat", &file).unwrap_err().to_string();
        assert!(error.contains("cannot write"), "{error}");
    }

    #[test]
    fn bad_names_are_refused_with_the_rule() {
        let long = "a".repeat(64);
        for (name, says) in [
            ("", "it is empty"),
            ("Chat", "begins with `C`"),
            ("9lives", "begins with `9`"),
            ("-x", "begins with `-`"),
            ("chat_room", "has a `_`"),
            ("../up", "begins with `.`"),
            ("a/b", "has a `/`"),
            (&long, "too long"),
        ] {
            let error = problem_of(name).unwrap();
            assert!(error.contains(says), "{name}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_accepted_name_is_that_of_an_app(name in "[a-z0-9A-Z_./-]{0,70}") {
            let accepted = problem_of(&name).is_none();
            prop_assert!(!accepted || tidegate_base::AppName::new(&name).is_ok());
        }
    }
}
