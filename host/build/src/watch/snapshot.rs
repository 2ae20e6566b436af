//! What a plugin's files are like at one moment, and what is different at another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::packages::package_folders;
use crate::stamp::{AMBIENT, INPUTS_MAX, State, state_of};

/// The files that a plugin is made of.
///
/// Sources are found by walking through the folders of its packages: what ends in `.rs`, and manifests, lock files and
/// settings of cargo. Others are known by name: what the last build read besides (a page that is included as text, say),
/// and the settings that cargo and rustup look for in the folders above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    sources: BTreeMap<PathBuf, State>,
    others: BTreeMap<PathBuf, State>,
    /// The folders that were walked through.
    pub(super) folders: BTreeSet<PathBuf>,
    /// There were more sources than can be watched; the rest is left out.
    pub(super) is_cut: bool,
}

impl Snapshot {
    /// Look at the plugin in `folder`, whose last build read `recorded`.
    pub(super) fn take(folder: &Path, recorded: &BTreeMap<PathBuf, State>) -> Self {
        let mut snapshot = Self::default();
        let packages = package_folders(folder);
        for package in &packages {
            snapshot.walk(package, &packages);
        }
        let above = folder.ancestors().flat_map(|folder| AMBIENT.iter().map(|name| folder.join(name)));
        for path in above.chain(recorded.keys().cloned()) {
            if !snapshot.sources.contains_key(&path) {
                let state = state_of(&path);
                snapshot.others.insert(path, state);
            }
        }
        snapshot
    }

    /// What has changed from `before` until now, sorted. `recorded` is what the last build has seen.
    pub(super) fn changes_since(&self, before: &Self, recorded: &BTreeMap<PathBuf, State>) -> Vec<PathBuf> {
        let mut changed = BTreeSet::new();
        for (path, state) in self.sources.iter().chain(&self.others) {
            let known = before.sources.get(path).or_else(|| before.others.get(path));
            // A file that nobody watched before counts from the build that read it; a source from when it was not there.
            let known = known.or_else(|| recorded.get(path)).copied().flatten();
            // Cargo writes it in the course of a build.
            let by_cargo = path.ends_with("Cargo.lock") && recorded.get(path) == Some(state);
            if *state != known && !by_cargo {
                changed.insert(path.clone());
            }
        }
        // One that is there but nobody's source any more has been given up by a manifest, which is the change then.
        let gone = before.sources.keys().filter(|path| !self.sources.contains_key(*path) && !path.exists());
        changed.extend(gone.cloned());
        changed.into_iter().collect()
    }

    /// In the order of names, so that a cut leaves out the same files each time.
    fn walk(&mut self, package: &Path, packages: &BTreeSet<PathBuf>) {
        let mut open = vec![package.to_owned()];
        while let Some(folder) = open.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            self.folders.insert(folder.clone());
            let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            paths.sort();
            for path in paths {
                if path.is_dir() {
                    let is_package = packages.contains(&path);
                    if !is_package && !is_link(&path) && is_source_folder(&path) {
                        open.push(path);
                    }
                } else if is_source(&path) {
                    if self.sources.len() >= INPUTS_MAX {
                        self.is_cut = true;
                        return;
                    }
                    let state = state_of(&path);
                    self.sources.insert(path, state);
                }
            }
        }
    }
}

/// Links to folders could lead in a circle; cargo's dep-info names what is really read behind them.
fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink())
}

/// Whether to look for sources in a folder inside of a package: not in hidden ones, in what cargo builds, in other
/// packages.
fn is_source_folder(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if name == ".cargo" {
        return true;
    }
    let built = folder.join("CACHEDIR.TAG").exists()
        || (name == "target" && folder.with_file_name("Cargo.toml").exists());
    !name.starts_with('.') && name != "node_modules" && !built && !folder.join("Cargo.toml").exists()
}

/// Whether cargo may read a file of that name: so not what editors write beside it for a moment.
fn is_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let settings = AMBIENT.iter().any(|ambient| path.ends_with(ambient));
    settings || (path.extension().is_some_and(|extension| extension == "rs") && !name.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::testing::TempDir;

    fn plugin() -> TempDir {
        let dir = TempDir::new();
        dir.write("p/Cargo.toml", "[dependencies]\nsdk = { path = \"../sdk\" }\n");
        dir.write("p/src/lib.rs", "x");
        dir.write("p/src/target/mod.rs", "a module may have that name");
        dir.write("sdk/Cargo.toml", "[package]\n");
        dir.write("sdk/src/lib.rs", "y");
        dir
    }

    fn take(dir: &TempDir) -> Snapshot {
        Snapshot::take(&dir.path().join("p"), &BTreeMap::new())
    }

    /// What a change of these files looks like.
    fn after(dir: &TempDir, change: impl FnOnce()) -> Vec<String> {
        let before = take(dir);
        change();
        let changes = take(dir).changes_since(&before, &BTreeMap::new());
        changes.iter().map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string()).collect()
    }

    #[test]
    fn sources_manifests_and_settings_count() {
        for name in [
            "p/src/lib.rs",
            "p/src/deep/new.rs",
            "p/src/target/mod.rs",
            "p/build.rs",
            "p/Cargo.toml",
            "p/Cargo.lock",
            "p/.cargo/config.toml",
            "sdk/src/lib.rs",
            "rust-toolchain.toml",
        ] {
            let dir = plugin();
            assert_eq!(after(&dir, || drop(dir.write(name, "longer than before"))), [name]);
        }
    }

    #[test]
    fn what_cargo_builds_and_editors_leave_behind_does_not() {
        for name in [
            "p/target/debug/build/x.rs",
            "p/src/.lib.rs.swp",
            "p/src/.#lib.rs",
            "p/src/#lib.rs#",
            "p/src/lib.rs~",
            "p/src/4913",
            "p/src/lib.rs___jb_tmp___",
            "p/.git/hooks/x.rs",
            "p/README.md",
            "p/node_modules/x/x.rs",
        ] {
            let dir = plugin();
            assert_eq!(after(&dir, || drop(dir.write(name, "text"))), [""; 0], "{name}");
        }
        let dir = plugin();
        dir.write("p/built elsewhere/CACHEDIR.TAG", "");
        dir.write("p/other/Cargo.toml", "[package]\n");
        let change = || {
            dir.write("p/built elsewhere/x.rs", "");
            dir.write("p/other/src/lib.rs", "");
        };
        assert_eq!(after(&dir, change), [""; 0]);
    }

    #[test]
    fn removed_and_renamed_sources_count() {
        let dir = plugin();
        dir.write("p/src/old.rs", "");
        let (old, new) = (dir.path().join("p/src/old.rs"), dir.path().join("p/src/new.rs"));
        assert_eq!(after(&dir, || std::fs::rename(&old, &new).unwrap()), ["p/src/new.rs", "p/src/old.rs"]);
        assert_eq!(after(&dir, || std::fs::remove_file(&new).unwrap()), ["p/src/new.rs"]);
    }

    #[test]
    fn a_file_that_the_last_build_read_counts_whatever_its_name() {
        let dir = plugin();
        let page = dir.write("page.html", "one");
        let before = take(&dir);
        let recorded = BTreeMap::from([(page.clone(), state_of(&page))]);
        let folder = dir.path().join("p");
        let now = Snapshot::take(&folder, &recorded);
        assert_eq!(
            now.changes_since(&before, &recorded),
            [""; 0].map(PathBuf::from),
            "first seen, as the build saw it"
        );
        dir.write("page.html", "another");
        let later = Snapshot::take(&folder, &recorded);
        assert_eq!(later.changes_since(&now, &recorded), std::slice::from_ref(&page));
        assert_eq!(
            later.changes_since(&before, &recorded),
            std::slice::from_ref(&page),
            "changed since the build"
        );
        let unlisted = Snapshot::take(&folder, &BTreeMap::new());
        assert!(
            unlisted.changes_since(&later, &BTreeMap::new()).is_empty(),
            "the next build does not read it"
        );
    }

    #[test]
    fn a_lock_file_that_cargo_wrote_in_the_build_is_no_change() {
        let dir = plugin();
        let before = take(&dir);
        let lock = dir.write("p/Cargo.lock", "new");
        let recorded = BTreeMap::from([(lock.clone(), state_of(&lock))]);
        let now = Snapshot::take(&dir.path().join("p"), &recorded);
        assert!(now.changes_since(&before, &recorded).is_empty());
        assert_eq!(now.changes_since(&before, &BTreeMap::new()), [lock]);
    }
}
