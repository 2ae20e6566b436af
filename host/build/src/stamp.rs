//! Remembers what a component was made of, so that an unchanged plugin is not built again.
//!
//! Cargo would find out the same, but to ask it costs a second. A stamp lists every input file of a build with its size
//! and time of modification: the sources that cargo's dep-info names (path dependencies included), every manifest, lock
//! file and configuration file on the way up, and the compiler. A missing file is an input too: when it appears, the
//! stamp is stale.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tidegate_contract::Contract;

use crate::files::write_atomic;
use crate::{Digest, Environment, Profile};

/// Changes with the meaning of a stamp's fields.
const FORMAT: u32 = 2;

/// More inputs than this are not worth a stamp.
pub(crate) const INPUTS_MAX: usize = 20_000;

/// Files that cargo and rustup read in a package's folder and in each folder above it.
pub(crate) const AMBIENT: [&str; 6] = [
    "Cargo.toml",
    "Cargo.lock",
    ".cargo/config.toml",
    ".cargo/config",
    "rust-toolchain.toml",
    "rust-toolchain",
];

/// A build that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    format: u32,
    /// The version of the builder: a new one may check more.
    builder: String,
    /// The plugin's folder: a copy of it, target folder included, is another plugin.
    folder: PathBuf,
    wasm: FileState,
    digest: String,
    contract: Contract,
    inputs: Vec<FileState>,
}

/// What a build was made of and when it began.
pub(crate) struct Inputs<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) environment: &'a Environment,
    pub(crate) compiler: &'a Path,
    pub(crate) since: SystemTime,
}

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileState {
    path: PathBuf,
    state: State,
}

/// Size in bytes and modification time in nanoseconds since 1970; none if there is no such file.
pub(crate) type State = Option<(u64, u64)>;

impl Stamp {
    /// Where the stamp of a plugin is kept.
    pub(crate) fn path(folder: &Path, target_dir: Option<&Path>, profile: Profile) -> PathBuf {
        match target_dir {
            None => folder.join("target/tidegate").join(format!("{profile}.json")),
            // A target folder of several plugins.
            Some(target_dir) => {
                let name = Digest::of(folder.as_os_str().as_encoded_bytes()).to_string();
                target_dir.join("tidegate").join(format!("{}-{profile}.json", &name[..16]))
            }
        }
    }

    /// The stamp of a finished build; `None` if its inputs cannot be told, or changed while it ran.
    pub(crate) fn of(wasm: &Path, digest: Digest, contract: &Contract, inputs: &Inputs<'_>) -> Option<Self> {
        let folder = inputs.folder.to_owned();
        let inputs = collect(wasm, inputs)?;
        Some(Self {
            folder,
            format: FORMAT,
            builder: env!("CARGO_PKG_VERSION").to_owned(),
            wasm: FileState::of(wasm),
            digest: digest.to_string(),
            contract: contract.clone(),
            inputs,
        })
    }

    /// Read the stamp of the plugin in `folder`; `None` unless everything is still as it says.
    pub(crate) fn load_fresh(path: &Path, folder: &Path) -> Option<Self> {
        let stamp = Self::read(path, folder)?;
        let same_builder = stamp.builder == env!("CARGO_PKG_VERSION");
        let fresh = same_builder
            && stamp.wasm.state.is_some()
            && stamp.digest.parse::<Digest>().is_ok()
            && stamp.wasm.is_unchanged()
            && stamp.inputs.iter().all(FileState::is_unchanged);
        fresh.then_some(stamp)
    }

    /// What the inputs of the last finished build of the plugin in `folder` were like, changed since or not; nothing
    /// without a stamp.
    pub(crate) fn recorded(path: &Path, folder: &Path) -> BTreeMap<PathBuf, State> {
        let inputs = Self::read(path, folder).map(|stamp| stamp.inputs);
        inputs.unwrap_or_default().into_iter().map(|file| (file.path, file.state)).collect()
    }

    fn read(path: &Path, folder: &Path) -> Option<Self> {
        let stamp: Self = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (stamp.format == FORMAT && stamp.folder == folder).then_some(stamp)
    }

    /// Keep the stamp. A failure only costs the next build its shortcut, so it is no error.
    pub(crate) fn save(&self, path: &Path) {
        if let Ok(text) = serde_json::to_vec(self) {
            let _ = write_atomic(path, &text);
        }
    }

    pub(crate) fn wasm(&self) -> &Path {
        &self.wasm.path
    }

    pub(crate) fn size(&self) -> u64 {
        self.wasm.state.map_or(0, |(size, _)| size)
    }

    pub(crate) fn digest(&self) -> Option<Digest> {
        self.digest.parse().ok()
    }

    pub(crate) fn contract(&self) -> &Contract {
        &self.contract
    }
}

impl FileState {
    fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), state: state_of(path) }
    }

    fn is_unchanged(&self) -> bool {
        Self::of(&self.path).state == self.state
    }
}

/// What a file is like now.
pub(crate) fn state_of(path: &Path) -> State {
    let metadata = std::fs::metadata(path).ok()?;
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    Some((metadata.len(), nanoseconds(modified)))
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn collect(wasm: &Path, inputs: &Inputs<'_>) -> Option<Vec<FileState>> {
    // Cargo puts it at TARGET_DIR/wasm32-wasip2/PROFILE/NAME.wasm.
    let target_dir = wasm.ancestors().nth(3)?;
    let mut paths: BTreeSet<PathBuf> = sources(wasm)?
        .into_iter()
        // What a build script generates follows from the other inputs.
        .filter(|path| !path.starts_with(target_dir))
        .collect();
    let manifests: BTreeSet<PathBuf> = paths.iter().flat_map(|source| manifests_above(source)).collect();
    paths.extend(manifests);
    let sources: Vec<_> = paths.iter().map(|path| FileState::of(path)).collect();
    let begun = nanoseconds(inputs.since);
    let settled = |file: &FileState| file.state.is_some_and(|(_, modified)| modified < begun);
    if sources.len() > INPUTS_MAX || !sources.iter().all(settled) {
        return None;
    }
    let mut all = sources;
    all.extend(ambient(inputs).iter().filter(|path| !paths.contains(*path)).map(|path| FileState::of(path)));
    Some(all)
}

/// The source files that cargo's dep-info beside the artifact names.
fn sources(wasm: &Path) -> Option<Vec<PathBuf>> {
    let text = std::fs::read_to_string(wasm.with_extension("d")).ok()?;
    let sources = parse_dep_info(&text);
    (!sources.is_empty()).then_some(sources)
}

/// The prerequisites of a makefile rule, all on one line, spaces in names escaped.
fn parse_dep_info(text: &str) -> Vec<PathBuf> {
    let Some((_, list)) = text.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    let mut names = vec![String::new()];
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        match (c, names.last_mut()) {
            (' ', _) => names.push(String::new()),
            ('\\', Some(name)) if chars.as_str().starts_with(' ') => {
                chars.next();
                name.push(' ');
            }
            (c, Some(name)) => name.push(c),
            (_, None) => {}
        }
    }
    names.into_iter().filter(|name| !name.is_empty()).map(PathBuf::from).collect()
}

/// The manifest of the package that a source file belongs to, and those of workspaces above it.
fn manifests_above(source: &Path) -> impl Iterator<Item = PathBuf> {
    source.ancestors().skip(1).map(|folder| folder.join("Cargo.toml")).filter(|manifest| manifest.is_file())
}

fn ambient(inputs: &Inputs<'_>) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::from([inputs.compiler.to_owned()]);
    for folder in inputs.folder.ancestors() {
        paths.extend(AMBIENT.iter().map(|name| folder.join(name)));
    }
    // A change of the default toolchain, and of the user's cargo configuration.
    paths.extend(inputs.environment.rustup_home().map(|home| home.join("settings.toml")));
    let cargo_home = inputs.environment.get("CARGO_HOME").map(PathBuf::from);
    let home = inputs.environment.get("HOME").map(|home| Path::new(home).join(".cargo"));
    paths.extend(cargo_home.or(home).map(|home| home.join("config.toml")));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::testing::TempDir;

    /// A plugin with a path dependency, built a moment ago.
    fn built(dir: &TempDir) -> (PathBuf, PathBuf) {
        let folder = folder(dir);
        dir.write("a plugin/Cargo.toml", "[package]");
        let source = dir.write("a plugin/src/lib.rs", "x");
        dir.write("sdk/Cargo.toml", "[package]");
        let dependency = dir.write("sdk/src/lib.rs", "y");
        let wasm = dir.write("a plugin/target/wasm32-wasip2/release/p.wasm", "wasm");
        let escape = |path: &Path| path.display().to_string().replace(' ', "\\ ");
        let rule = format!("{}: {} {}\n", escape(&wasm), escape(&source), escape(&dependency));
        std::fs::write(wasm.with_extension("d"), rule).unwrap();
        (folder, wasm)
    }

    fn stamp(dir: &TempDir, since: SystemTime) -> Option<(Stamp, PathBuf)> {
        let (folder, wasm) = built(dir);
        let environment = Environment::from_vars([]);
        let compiler = dir.write("rustc", "");
        let inputs = Inputs { folder: &folder, environment: &environment, compiler: &compiler, since };
        let contract = Contract {
            version: tidegate_contract::CONTRACT_VERSION,
            exports: tidegate_base::Exports::MESSAGE,
            imports: Vec::new(),
            other_exports: Vec::new(),
        };
        let stamp = Stamp::of(&wasm, Digest::of(b"wasm"), &contract, &inputs)?;
        Some((stamp, Stamp::path(&folder, None, Profile::Release)))
    }

    fn folder(dir: &TempDir) -> PathBuf {
        dir.path().join("a plugin")
    }

    fn later() -> SystemTime {
        SystemTime::now() + std::time::Duration::from_secs(3600)
    }

    #[test]
    fn an_unchanged_plugin_is_fresh() {
        let dir = TempDir::new();
        let (stamp, path) = stamp(&dir, later()).unwrap();
        assert!(Stamp::load_fresh(&path, &folder(&dir)).is_none(), "nothing is saved yet");
        stamp.save(&path);
        assert_eq!(Stamp::load_fresh(&path, &folder(&dir)), Some(stamp));
    }

    #[test]
    fn a_change_of_any_input_makes_the_stamp_stale() {
        for changed in [
            "a plugin/src/lib.rs",
            "a plugin/Cargo.toml",
            "a plugin/Cargo.lock",
            "a plugin/.cargo/config.toml",
            "sdk/src/lib.rs",
            "sdk/Cargo.toml",
            "rust-toolchain.toml",
            "rustc",
            "a plugin/target/wasm32-wasip2/release/p.wasm",
        ] {
            let dir = TempDir::new();
            let (stamp, path) = stamp(&dir, later()).unwrap();
            stamp.save(&path);
            dir.write(changed, "something longer than before");
            assert!(Stamp::load_fresh(&path, &folder(&dir)).is_none(), "{changed}");
        }
    }

    #[test]
    fn what_the_last_build_saw_can_be_read_even_from_a_stale_stamp() {
        let dir = TempDir::new();
        let (stamp, path) = stamp(&dir, later()).unwrap();
        assert!(Stamp::recorded(&path, &folder(&dir)).is_empty());
        stamp.save(&path);
        let source = dir.path().join("sdk/src/lib.rs");
        let seen = state_of(&source);
        dir.write("sdk/src/lib.rs", "something longer than before");
        let recorded = Stamp::recorded(&path, &folder(&dir));
        assert_eq!(recorded.get(&source), Some(&seen));
        assert_eq!(recorded.get(&dir.path().join("a plugin/Cargo.lock")), Some(&None));
        std::fs::write(&path, "{").unwrap();
        assert!(Stamp::recorded(&path, &folder(&dir)).is_empty());
    }

    #[test]
    fn a_stamp_that_was_copied_with_its_folder_says_nothing_of_the_copy() {
        let dir = TempDir::new();
        let (stamp, path) = stamp(&dir, later()).unwrap();
        let copy = dir.path().join("a copy");
        let copied = Stamp::path(&copy, None, Profile::Release);
        std::fs::create_dir_all(copied.parent().unwrap()).unwrap();
        stamp.save(&path);
        std::fs::copy(&path, &copied).unwrap();
        assert!(Stamp::load_fresh(&copied, &copy).is_none());
        assert!(Stamp::recorded(&copied, &copy).is_empty());
    }

    #[test]
    fn a_removed_input_makes_the_stamp_stale() {
        let dir = TempDir::new();
        let (stamp, path) = stamp(&dir, later()).unwrap();
        stamp.save(&path);
        std::fs::remove_file(dir.path().join("sdk/src/lib.rs")).unwrap();
        assert!(Stamp::load_fresh(&path, &folder(&dir)).is_none());
    }

    #[test]
    fn a_source_that_changed_during_the_build_gets_no_stamp() {
        let dir = TempDir::new();
        assert!(stamp(&dir, UNIX_EPOCH).is_none());
    }

    #[test]
    fn a_damaged_stamp_is_no_stamp() {
        let dir = TempDir::new();
        let (stamp, path) = stamp(&dir, later()).unwrap();
        stamp.save(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        for damaged in ["", "{}", &text[..text.len() / 2], &text.replace("\"format\":2", "\"format\":3")] {
            std::fs::write(&path, damaged).unwrap();
            assert!(Stamp::load_fresh(&path, &folder(&dir)).is_none());
        }
    }

    #[test]
    fn names_with_spaces_survive_dep_info() {
        let paths = parse_dep_info("/t/p.wasm: /a\\ b/lib.rs /c/d.rs\n\n/c/d.rs:\n");
        assert_eq!(paths, [PathBuf::from("/a b/lib.rs"), PathBuf::from("/c/d.rs")]);
        assert!(parse_dep_info("").is_empty());
    }

    #[test]
    fn plugins_that_share_a_target_folder_have_stamps_of_their_own() {
        let shared = Some(Path::new("/t"));
        let one = Stamp::path(Path::new("/a"), shared, Profile::Release);
        assert_ne!(one, Stamp::path(Path::new("/b"), shared, Profile::Release));
        assert_ne!(one, Stamp::path(Path::new("/a"), shared, Profile::Dev));
    }
}
