//! Makes the toolchain out of Debian packages.
//!
//! The work is that of `toolchain/debian.sh`; here is what makes it safe: one process at a time (a file lock), nothing
//! half-made (it is made in a folder of its own and renamed into place), and remade when this version of Tidegate needs
//! another one (the folder's name has a revision).

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{self, RunError, Stream, Tail};
use crate::{Environment, Event, Progress, TARGET};

/// To be raised with every change of the script or of the stubs that matters to plugins.
const REVISION: u32 = 1;

/// Downloads of 200 MB and two minutes of compilation, on a slow machine.
const LIMIT: Duration = Duration::from_secs(45 * 60);

const SCRIPT: &str = include_str!("../../toolchain/debian.sh");
const STUBS: &str = include_str!("../../toolchain/libc_stubs.rs");

/// The file of a finished toolchain that says what it was made of.
const STAMP: &str = "made-of";

/// Folders in which an interrupted set-up was at work begin so.
const MAKING: &str = "making-";

/// The folder that holds the toolchain.
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// That of this user; `None` if the environment names no home.
    pub(super) fn of(environment: &Environment) -> Option<Self> {
        environment.data_dir().map(|data| Self { folder: data.join("guest-toolchain") })
    }

    /// The finished toolchain. Its links are mended if the Rust installation that has its linker moved.
    pub(super) fn find(&self, host: &Path) -> Option<PathBuf> {
        let toolchain = self.toolchain();
        let complete = toolchain.join(STAMP).is_file() && super::has_std(&toolchain);
        (complete && link_linker(&toolchain, host).is_ok()).then_some(toolchain)
    }

    /// Make the toolchain, or wait for the process that makes it. `host` is the sysroot of the active toolchain: it
    /// lends cargo and the linker. The reason if it fails.
    pub(super) fn make(
        &self,
        environment: &Environment,
        host: &Path,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, String> {
        check_machine(environment, host)?;
        let _lock = self.lock(progress).map_err(|error| self.explain("lock", &error))?;
        if let Some(made) = self.find(host) {
            return Ok(made);
        }
        self.clear().map_err(|error| self.explain("clear", &error))?;
        let making = self.folder.join(format!("{MAKING}{}", std::process::id()));
        std::fs::create_dir(&making).map_err(|error| self.explain("write to", &error))?;
        let made = run_script(environment, host, &making, progress)
            .and_then(|()| self.install(&making).map_err(|error| self.explain("write to", &error)));
        let _ = std::fs::remove_dir_all(&making);
        made?;
        self.find(host).ok_or_else(|| "what was made is not complete; build again to make it anew".to_owned())
    }

    fn toolchain(&self) -> PathBuf {
        self.folder.join(format!("{TARGET}-{REVISION}"))
    }

    /// The lock goes with its file handle, also if the process is killed.
    fn lock(&self, progress: &mut dyn Progress) -> std::io::Result<File> {
        std::fs::create_dir_all(&self.folder)?;
        let path = self.folder.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.event(Event::Waiting("another process sets the toolchain up"));
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(file)
    }

    /// Remove what interrupted set-ups and earlier revisions left. Under the lock nobody else is at work.
    fn clear(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn install(&self, making: &Path) -> std::io::Result<()> {
        std::fs::rename(making.join("toolchain"), self.toolchain())
    }

    fn explain(&self, action: &str, error: &std::io::Error) -> String {
        format!("cannot {action} {}: {error}", self.folder.display())
    }
}

/// What can be told before the first download.
fn check_machine(environment: &Environment, host: &Path) -> Result<(), String> {
    for program in ["apt-get", "apt-cache", "dpkg", "dpkg-query", "bash"] {
        if !environment.has_program(program) {
            return Err(format!("this machine has no {program}, so it is not a Debian one"));
        }
    }
    let bin = linker_folder(host).ok_or_else(|| format!("{} has no lib/rustlib/HOST/bin", host.display()))?;
    for program in ["rust-lld", "wasm-component-ld"] {
        if !bin.join(program).is_file() {
            return Err(format!("{} has no {program}; install Rust from https://rustup.rs", bin.display()));
        }
    }
    Ok(())
}

fn run_script(
    environment: &Environment,
    host: &Path,
    making: &Path,
    progress: &mut dyn Progress,
) -> Result<(), String> {
    let write = |name: &str, text: &str| {
        std::fs::write(making.join(name), text).map_err(|error| format!("cannot write {name}: {error}"))
    };
    write("debian.sh", SCRIPT)?;
    write("libc_stubs.rs", STUBS)?;
    let mut command = environment.command("bash");
    command
        .arg("debian.sh")
        .current_dir(making)
        .env("LC_ALL", "C")
        .env("RUSTUP_TOOLCHAIN", host)
        .env("HOST_SYSROOT", host)
        .env("TARGET", TARGET)
        .env("REVISION", REVISION.to_string());
    let mut tail = Tail::default();
    let result = process::run(command, LIMIT, |stream, line| match (stream, line.strip_prefix("step: ")) {
        (Stream::Out, Some(step)) => progress.event(Event::Toolchain(step)),
        _ => tail.push(line),
    });
    match result {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(tail.text()),
        Err(RunError::Io(error)) => Err(format!("bash does not run: {error}")),
        Err(RunError::TimedOut(limit)) => {
            Err(format!("it was not done after {} minutes", limit.as_secs() / 60))
        }
    }
}

/// The folder with `rust-lld` and `wasm-component-ld` in a sysroot of rustup.
fn linker_folder(sysroot: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
    let mut folders = entries.flatten().map(|entry| entry.path().join("bin")).filter(|bin| bin.is_dir());
    folders.find(|bin| bin.join("wasm-component-ld").is_file()).or_else(|| folders.next())
}

/// The toolchain borrows its linker from the Rust installation that was active when it was made. If that is gone, borrow
/// from the one that is active now.
fn link_linker(toolchain: &Path, host: &Path) -> std::io::Result<()> {
    if linker_folder(toolchain).is_some() {
        return Ok(());
    }
    let bin = linker_folder(host).ok_or(std::io::ErrorKind::NotFound)?;
    let triple = bin.parent().and_then(Path::file_name).ok_or(std::io::ErrorKind::NotFound)?;
    let link = toolchain.join("lib/rustlib").join(triple).join("bin");
    let temporary = link.with_extension(std::process::id().to_string());
    symlink(&bin, &temporary)?;
    std::fs::rename(&temporary, &link)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _link: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
