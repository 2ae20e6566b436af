//! The way from a folder to a checked component.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tidegate_contract::Contract;

use crate::cargo::{self, Job};
use crate::files::{canonical, write_atomic};
use crate::project::{self, Project};
use crate::stamp::{Inputs, Stamp};
use crate::{BuildError, Digest, Environment, Event, Progress, toolchain};

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The plugin's folder, its Cargo.toml, or a folder that has the plugin in `plugin/`.
    pub path: PathBuf,
    /// How to compile it.
    pub profile: Profile,
    /// Where cargo puts its files; `None` for the plugin's own default.
    pub target_dir: Option<PathBuf>,
    /// Where to put a copy of the component: a file, or an existing folder, in which it is named as cargo names it.
    /// `None` leaves it where cargo put it.
    pub out: Option<PathBuf>,
    /// The environment to build in; `TIDEGATE_GUEST_TOOLCHAIN` in it chooses the toolchain.
    pub environment: Environment,
}

impl BuildRequest {
    /// A release build in this process's environment with everything in its usual place.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            profile: Profile::Release,
            target_dir: None,
            out: None,
            environment: Environment::current(),
        }
    }

    /// Takes a toolchain that has the target, or makes one out of Debian packages, but never has rustup install anything,
    /// unless [`toolchain::VARIABLE`] in the environment chooses: for tests, which leave the machine's toolchains as they
    /// are.
    #[must_use]
    pub fn leaving_rustup_alone(mut self) -> Self {
        if self.environment.get(toolchain::VARIABLE).is_none() {
            self.environment = self.environment.with(toolchain::VARIABLE, "debian");
        }
        self
    }
}

/// How to compile a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Optimized; for everything but a debugger.
    Release,
    /// Quick to compile, slow to run.
    Dev,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Release => "release",
            Self::Dev => "dev",
        })
    }
}

/// A checked component.
#[derive(Debug, Clone)]
pub struct Built {
    /// Where it is: the copy if one was asked for.
    pub wasm: PathBuf,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it exports and imports.
    pub contract: Contract,
    /// The name of the plugin's package.
    pub package: String,
    /// How long the build took.
    pub took: Duration,
    /// Nothing had changed since the last build, so nothing was run.
    pub cached: bool,
}

/// Build a plugin and check the component. Blocks until it is done; a missing toolchain is set up first.
///
/// # Errors
/// See [`BuildError`]. What the compiler says goes to the progress line by line.
pub fn build(request: &BuildRequest, progress: &mut dyn Progress) -> Result<Built, BuildError> {
    let started = Instant::now();
    let Places { project, target_dir, stamp } = Places::of(request)?;
    let mut built = match unchanged(&project, &stamp) {
        Some(built) => built,
        None => compile(request, &project, target_dir.as_deref(), &stamp, progress)?,
    };
    if let Some(out) = &request.out {
        built.wasm = copy_out(&built.wasm, out)?;
    }
    built.took = started.elapsed();
    progress.event(Event::Done(&built));
    Ok(built)
}

/// Where everything of a build is.
pub(crate) struct Places {
    pub(crate) project: Project,
    target_dir: Option<PathBuf>,
    /// The stamp of the last build.
    pub(crate) stamp: PathBuf,
}

impl Places {
    pub(crate) fn of(request: &BuildRequest) -> Result<Self, BuildError> {
        let project = project::locate(&request.path)?;
        let target_dir = request.target_dir.as_deref().map(std::path::absolute).transpose();
        let target_dir = target_dir.map_err(BuildError::io("find", &request.path))?;
        let stamp = Stamp::path(&project.folder, target_dir.as_deref(), request.profile);
        Ok(Self { project, target_dir, stamp })
    }
}

fn unchanged(project: &Project, stamp_path: &Path) -> Option<Built> {
    let stamp = Stamp::load_fresh(stamp_path, &project.folder)?;
    Some(Built {
        wasm: stamp.wasm().to_owned(),
        digest: stamp.digest()?,
        size: stamp.size(),
        contract: stamp.contract().clone(),
        package: project.package.clone(),
        took: Duration::ZERO,
        cached: true,
    })
}

fn compile(
    request: &BuildRequest,
    project: &Project,
    target_dir: Option<&Path>,
    stamp_path: &Path,
    progress: &mut dyn Progress,
) -> Result<Built, BuildError> {
    let environment = &request.environment;
    let toolchain = toolchain::ensure(environment, &project.folder, progress)?;
    let since = SystemTime::now();
    let job = Job { project, profile: request.profile, target_dir };
    let wasm = cargo::compile(&job, environment, &toolchain, progress)?;
    progress.event(Event::Checking);
    let bytes = std::fs::read(&wasm).map_err(BuildError::io("read", &wasm))?;
    let contract = tidegate_contract::check(&bytes)
        .map_err(|error| BuildError::Contract { wasm: wasm.clone(), error })?;
    let digest = Digest::of(&bytes);
    let compiler = toolchain.rustc();
    let inputs = Inputs { folder: &project.folder, environment, compiler: &compiler, since };
    if let Some(stamp) = Stamp::of(&wasm, digest, &contract, &inputs) {
        stamp.save(stamp_path);
    }
    Ok(Built {
        wasm,
        digest,
        size: bytes.len() as u64,
        contract,
        package: project.package.clone(),
        took: Duration::ZERO,
        cached: false,
    })
}

/// Copy the component unless the copy has the same bytes already, so that who watches it sees no change.
fn copy_out(wasm: &Path, out: &Path) -> Result<PathBuf, BuildError> {
    let out = if out.is_dir() { out.join(wasm.file_name().unwrap_or_default()) } else { out.to_owned() };
    let bytes = std::fs::read(wasm).map_err(BuildError::io("read", wasm))?;
    if std::fs::read(&out).is_ok_and(|old| old == bytes) {
        return Ok(canonical(&out));
    }
    write_atomic(&out, &bytes).map_err(BuildError::io("write", &out))?;
    Ok(canonical(&out))
}
