//! Every way to a toolchain, with scripts in the place of the real programs.

use super::*;
use crate::files::testing::TempDir;

/// A machine whose programs are scripts.
struct Machine {
    dir: TempDir,
    vars: Vec<(&'static str, String)>,
}

#[derive(Default)]
struct Steps(Vec<String>);

impl Progress for Steps {
    fn event(&mut self, event: Event<'_>) {
        self.0.push(format!("{event:?}"));
    }
}

/// What the imitated `debian.sh` run needs of bash: it makes a toolchain of the right shape.
const MAKES_TOOLCHAIN: &str = r#"
    echo run >>"$HOME/runs"
    echo "step: making"
    mkdir -p toolchain/bin toolchain/lib/rustlib/wasm32-wasip2/lib toolchain/lib/rustlib/x86_64
    touch toolchain/bin/rustc toolchain/lib/rustlib/wasm32-wasip2/lib/libstd-1.rlib
    ln -s "$HOST_SYSROOT/lib/rustlib/x86_64/bin" toolchain/lib/rustlib/x86_64/bin
    echo "revision $REVISION" >toolchain/made-of
"#;

impl Machine {
    /// With a Rust that has no std for the target, and rustup.
    fn new() -> Self {
        let dir = TempDir::new();
        let sysroot = dir.path().join("rustup/toolchains/stable");
        for program in ["rust-lld", "wasm-component-ld"] {
            dir.write(&format!("rustup/toolchains/stable/lib/rustlib/x86_64/bin/{program}"), "");
        }
        dir.script("bin/cargo", "exit 9");
        dir.script("bin/rustc", &format!("[ \"$*\" = '--print sysroot' ] && echo '{}'", sysroot.display()));
        let path = format!("{}:/usr/bin:/bin", dir.path().join("bin").display());
        let home = dir.path().display().to_string();
        let rustup_home = dir.path().join("rustup").display().to_string();
        Self { dir, vars: vec![("PATH", path), ("HOME", home), ("RUSTUP_HOME", rustup_home)] }
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.vars.push((name, value.to_owned()));
        self
    }

    fn rustup(self, script: &str) -> Self {
        self.dir.script("bin/rustup", script);
        self
    }

    /// With apt, and a bash that does this instead of the real script.
    fn debian(self, script: &str) -> Self {
        for program in ["apt-get", "apt-cache", "dpkg", "dpkg-query"] {
            self.dir.script(&format!("bin/{program}"), "exit 1");
        }
        self.dir.script("bin/bash", script);
        self
    }

    fn environment(&self) -> Environment {
        Environment::from_vars(self.vars.iter().map(|(name, value)| (name.into(), value.into())))
    }

    /// As a build that leaves rustup alone.
    fn ensure_quietly(&self) -> Result<Toolchain, ToolchainError> {
        let request =
            crate::BuildRequest { environment: self.environment(), ..crate::BuildRequest::new(".") };
        ensure(&request.leaving_rustup_alone().environment, self.dir.path(), &mut Steps::default())
    }

    fn ensure(&self) -> Result<Toolchain, ToolchainError> {
        ensure(&self.environment(), self.dir.path(), &mut Steps::default())
    }

    fn add_std(&self) {
        self.dir.write("rustup/toolchains/stable/lib/rustlib/wasm32-wasip2/lib/libstd-123.rlib", "");
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.dir.path().join("runs")).map_or(0, |text| text.lines().count())
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join(".local/share/tidegate/guest-toolchain")
    }
}

const ADDS_STD: &str = r#"
    [ "$*" = "target add wasm32-wasip2 --toolchain stable" ] || exit 1
    lib="$RUSTUP_HOME/toolchains/stable/lib/rustlib/wasm32-wasip2/lib"
    mkdir -p "$lib" && touch "$lib/libstd-1.rlib"
"#;

const OFFLINE: &str = "echo 'error: could not download file' >&2; exit 1";

#[test]
fn a_build_that_leaves_rustup_alone_takes_what_is_there_or_debian_packages() {
    let adds = "touch \"$HOME/added\"; exit 1";
    let machine = Machine::new().rustup(adds).debian(MAKES_TOOLCHAIN);
    assert!(machine.ensure_quietly().unwrap().is_debian());
    let machine = Machine::new().rustup(adds);
    assert!(matches!(machine.ensure_quietly(), Err(ToolchainError::Debian { .. })));
    assert!(!machine.dir.path().join("added").exists(), "rustup was asked");
    machine.add_std();
    assert!(!machine.ensure_quietly().unwrap().is_debian());
    // Whoever chooses is obeyed.
    let machine = Machine::new().rustup(adds).set(VARIABLE, "rustup");
    assert!(matches!(machine.ensure_quietly(), Err(ToolchainError::Rustup { .. })));
    assert!(machine.dir.path().join("added").exists());
}

#[test]
fn an_installed_target_is_used_as_it_is_even_if_debian_is_asked_for() {
    for choice in ["", "debian", "rustup"] {
        let machine = Machine::new().rustup("exit 1").set(VARIABLE, choice);
        machine.add_std();
        let toolchain = machine.ensure().unwrap();
        assert!(!toolchain.is_debian());
        let environment = toolchain.apply(&machine.environment());
        assert!(
            environment.get("RUSTUP_TOOLCHAIN").unwrap().to_str().unwrap().ends_with("toolchains/stable")
        );
        assert_eq!(environment.get("RUSTC"), None);
    }
}

#[test]
fn rustup_adds_a_missing_target() {
    let machine = Machine::new().rustup(ADDS_STD).debian(MAKES_TOOLCHAIN);
    assert!(!machine.ensure().unwrap().is_debian());
    assert_eq!(machine.runs(), 0);
}

#[test]
fn debian_takes_over_when_rustup_cannot() {
    let machine = Machine::new().rustup(OFFLINE).debian(MAKES_TOOLCHAIN);
    let toolchain = machine.ensure().unwrap();
    assert!(toolchain.is_debian());
    let rustc = toolchain.apply(&machine.environment()).get("RUSTC").unwrap().to_owned();
    assert!(Path::new(&rustc).is_file() && Path::new(&rustc).starts_with(machine.store()));
}

#[test]
fn debian_is_made_once_and_without_rustup_if_asked_for() {
    let asked = "echo rustup >>\"$HOME/runs\"; exit 1";
    let machine = Machine::new().rustup(asked).debian(MAKES_TOOLCHAIN).set(VARIABLE, "debian");
    let first = machine.ensure().unwrap();
    assert_eq!(machine.ensure().unwrap(), first);
    assert_eq!(machine.runs(), 1);
}

#[test]
fn two_at_once_make_it_once() {
    let machine = Machine::new().debian(MAKES_TOOLCHAIN).set(VARIABLE, "debian");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(machine.ensure().unwrap().is_debian()));
        }
    });
    assert_eq!(machine.runs(), 1);
}

#[test]
fn a_set_up_that_was_killed_leaves_nothing_that_counts() {
    let machine = Machine::new().debian(MAKES_TOOLCHAIN).set(VARIABLE, "debian");
    let half = machine.store().join("making-1/toolchain");
    std::fs::create_dir_all(&half).unwrap();
    // Of a killed process whose folder was renamed before the stamp was written there is none, but be sure.
    std::fs::create_dir_all(machine.store().join("wasm32-wasip2-1/bin")).unwrap();
    assert!(machine.ensure().unwrap().is_debian());
    assert_eq!(machine.runs(), 1);
    assert!(!half.exists());
    let left: Vec<_> = std::fs::read_dir(machine.store()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 2, "the lock and the toolchain: {left:?}");
}

#[test]
fn a_failed_set_up_says_why_and_leaves_nothing() {
    let machine = Machine::new().debian("echo half >toolchain; echo 'no space left' >&2; exit 1");
    let machine = machine.set(VARIABLE, "debian");
    let error = machine.ensure().unwrap_err();
    assert!(
        matches!(&error, ToolchainError::Debian { reason } if reason.contains("no space left")),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(machine.store()).unwrap().count(), 1);
}

#[test]
fn the_linker_is_borrowed_anew_when_the_rust_that_lent_it_is_gone() {
    let machine = Machine::new().debian(MAKES_TOOLCHAIN).set(VARIABLE, "debian");
    let made = machine.ensure().unwrap().debian.unwrap();
    let link = made.join("lib/rustlib/x86_64/bin");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/gone", &link).unwrap();
    assert!(machine.ensure().unwrap().is_debian());
    assert!(link.join("wasm-component-ld").is_file());
    assert_eq!(machine.runs(), 1);
}

#[test]
fn when_neither_works_both_reasons_are_told() {
    let machine = Machine::new().rustup(OFFLINE).debian("echo 'no such package' >&2; exit 1");
    let text = machine.ensure().unwrap_err().to_string();
    assert!(text.contains("could not download file") && text.contains("no such package"), "{text}");
}

#[test]
fn rustup_alone_does_not_touch_debian() {
    let machine = Machine::new().rustup(OFFLINE).debian(MAKES_TOOLCHAIN).set(VARIABLE, "rustup");
    assert!(matches!(machine.ensure(), Err(ToolchainError::Rustup { .. })));
    assert_eq!(machine.runs(), 0);
}

#[test]
fn a_machine_without_rust_is_told_to_install_it() {
    let machine = Machine::new();
    machine.dir.script("bin/rustc", "exit 1");
    assert!(matches!(machine.ensure(), Err(ToolchainError::NoRust { program: "rustc" })));
    let bare = Machine::new().set("PATH", "/nowhere");
    let text = bare.ensure().unwrap_err().to_string();
    assert!(text.contains("cargo is not installed") && text.contains("rustup.rs"), "{text}");
}

#[test]
fn an_unknown_choice_is_refused() {
    let text = Machine::new().set(VARIABLE, "gentoo").ensure().unwrap_err().to_string();
    assert!(text.contains("gentoo") && text.contains("`rustup` or `debian`"), "{text}");
}
