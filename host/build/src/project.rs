//! Finds the plugin that a path means.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::BuildError;
use crate::files::canonical;

/// A plugin's source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    /// The folder of its manifest, resolved.
    pub(crate) folder: PathBuf,
    pub(crate) manifest: PathBuf,
    /// The name of its package.
    pub(crate) package: String,
}

#[derive(Deserialize)]
struct Manifest {
    package: Option<Package>,
    lib: Option<Library>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

#[derive(Deserialize)]
struct Library {
    #[serde(rename = "crate-type", alias = "crate_type", default)]
    crate_type: Vec<String>,
}

/// Find the plugin: `path` is its folder, its Cargo.toml, or the folder of an app that has it in `plugin/`.
pub(crate) fn locate(path: &Path) -> Result<Project, BuildError> {
    let manifest = find_manifest(path)?;
    let text = std::fs::read_to_string(&manifest).map_err(BuildError::io("read", &manifest))?;
    let parsed: Manifest = toml::from_str(&text).map_err(|error| BuildError::BadManifest {
        manifest: manifest.clone(),
        reason: error.to_string().trim_end().to_owned(),
    })?;
    let Some(package) = parsed.package else {
        return Err(BuildError::NoPackage { manifest });
    };
    let crate_types = parsed.lib.map(|lib| lib.crate_type).unwrap_or_default();
    if !crate_types.iter().any(|kind| kind == "cdylib") {
        return Err(BuildError::NotCdylib { manifest });
    }
    let folder = manifest.parent().map(Path::to_owned).unwrap_or_default();
    Ok(Project { folder, manifest, package: package.name })
}

fn find_manifest(path: &Path) -> Result<PathBuf, BuildError> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => BuildError::NotFound { path: path.to_owned() },
        _ => BuildError::io("read", path)(error),
    })?;
    if metadata.is_file() {
        return match path.file_name() {
            Some(name) if name == "Cargo.toml" => Ok(canonical(path)),
            _ => Err(BuildError::NotSource { path: path.to_owned() }),
        };
    }
    ["Cargo.toml", "plugin/Cargo.toml"]
        .into_iter()
        .map(|name| path.join(name))
        .find(|manifest| manifest.is_file())
        .map(|manifest| canonical(&manifest))
        .ok_or_else(|| BuildError::NoManifest { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::testing::TempDir;

    const GOOD: &str = "[package]\nname = \"chat\"\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n";

    #[test]
    fn a_plugin_is_found_by_folder_by_manifest_and_inside_of_an_app() {
        let dir = TempDir::new();
        let manifest = dir.write("app/plugin/Cargo.toml", GOOD);
        for path in ["app", "app/plugin", "app/plugin/Cargo.toml", "app/../app/plugin"] {
            let project = locate(&dir.path().join(path)).unwrap();
            assert_eq!(project.manifest, manifest);
            assert_eq!(project.folder, dir.path().join("app/plugin"));
            assert_eq!(project.package, "chat");
        }
    }

    #[test]
    fn each_wrong_path_has_its_own_message() {
        let dir = TempDir::new();
        dir.write("empty/readme", "");
        dir.write("p.wasm", "");
        dir.write("workspace/Cargo.toml", "[workspace]\n");
        dir.write("broken/Cargo.toml", "[package\n");
        dir.write("program/Cargo.toml", "[package]\nname = \"p\"\n");
        for (path, says) in [
            ("missing", "does not exist"),
            ("empty", "tidegate new"),
            ("p.wasm", "is a file"),
            ("workspace", "is a workspace"),
            ("broken", "line 1"),
            ("program", "crate-type = [\"cdylib\"]"),
        ] {
            let error = locate(&dir.path().join(path)).unwrap_err().to_string();
            assert!(error.contains(says), "{path}: {error}");
        }
    }
}
