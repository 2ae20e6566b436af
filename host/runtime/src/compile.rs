//! Compilation. Compiling an untrusted module can take seconds and a lot of memory, and is a large attack surface, so
//! it happens in a child process: this very binary, started with a hidden subcommand that calls [`child_main`].
//!
//! The module goes in by stdin, compiled code comes out by stdout, an explanation by stderr: three files in memory.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};

use crate::engine::Layout;

/// How modules are compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// In this process: for modules that its user has built, as `dev` does. Bounded by nothing.
    InProcess,
    /// In a child process, within limits.
    Child(ChildCompiler),
}

impl Compiler {
    pub(crate) fn compile(&self, layout: Layout, module: &[u8]) -> Result<Vec<u8>, CompileError> {
        match self {
            Self::InProcess => compile_here(layout, module).map_err(CompileError::Module),
            Self::Child(child) => child.compile(layout, module),
        }
    }
}

/// A program that calls [`child_main`], and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildCompiler {
    /// The program, usually `std::env::current_exe()`.
    pub program: PathBuf,
    /// Its arguments up to those that `child_main` gets: the hidden subcommand.
    pub args: Vec<OsString>,
    /// What it may use.
    pub limits: CompileLimits,
}

impl ChildCompiler {
    /// A child of this program with the default limits.
    pub fn new(program: impl Into<PathBuf>, subcommand: impl Into<OsString>) -> Self {
        Self { program: program.into(), args: vec![subcommand.into()], limits: CompileLimits::default() }
    }
}

/// What a compile child may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Time from start to end, in milliseconds. 60,000 by default; the largest Python component takes about 4,000.
    pub timeout_ms: u64,
    /// Address space, in MiB. 4,096 by default.
    pub address_space_mib: u64,
    /// Size of the compiled code, in MiB. 256 by default.
    pub code_mib: u64,
    /// What is added to its nice value: 0 to 19, 10 by default.
    pub nice: u8,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { timeout_ms: 60_000, address_space_mib: 4096, code_mib: 256, nice: 10 }
    }
}

/// Why a module was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is not a component that can be compiled.
    #[error("{0}")]
    Module(String),
    /// It takes too long.
    #[error("it was not done after {0} ms (the compile child's timeout_ms): is the module very large?")]
    Timeout(u64),
    /// The child died, usually because it used up its memory.
    #[error(
        "the compile child ended with {status}; it may use {address_space_mib} MiB (address_space_mib) and write \
         {code_mib} MiB of code (code_mib). It said: {said}"
    )]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// Its limit.
        address_space_mib: u64,
        /// Its limit.
        code_mib: u64,
        /// The last of its stderr.
        said: String,
    },
    /// The child cannot be started or talked to.
    #[error("the compile child {program} cannot be {what}: {error}")]
    Child {
        /// The program.
        program: PathBuf,
        /// What failed.
        what: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// The exit code of a child that refuses the module; its stderr says why.
const EXIT_REFUSED: u8 = 65;
/// The exit code of a child that was called wrongly.
const EXIT_USAGE: u8 = 64;
/// How much of the child's stderr is kept.
const SAID_BYTES_MAX: u64 = 8 * 1024;

/// What the hidden subcommand does: reads a component from stdin, compiles it within the limits that the arguments
/// name, writes the code to stdout. `args` are the arguments after the subcommand.
///
/// Call it before anything else starts threads or opens files.
pub fn child_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(orders) = Orders::parse(args) else {
        return explain(EXIT_USAGE, "this subcommand is for the worker's own use");
    };
    if let Err(error) = orders.confine() {
        return explain(EXIT_USAGE, format_args!("the limits of the compile child cannot be set: {error}"));
    }
    let mut module = Vec::new();
    if let Err(error) = io::stdin().lock().read_to_end(&mut module) {
        return explain(EXIT_USAGE, format_args!("the module cannot be read: {error}"));
    }
    match compile_here(orders.layout, &module) {
        Ok(code) => match io::stdout().lock().write_all(&code) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => explain(EXIT_USAGE, format_args!("the code cannot be written: {error}")),
        },
        Err(reason) => explain(EXIT_REFUSED, reason),
    }
}

impl ChildCompiler {
    fn compile(&self, layout: Layout, module: &[u8]) -> Result<Vec<u8>, CompileError> {
        let failed = |what| move |error| self.failed(what, error);
        let mut code = memory_file(&[]).map_err(failed("given files"))?;
        let mut said = memory_file(&[]).map_err(failed("given files"))?;
        let stdio = |file: &File| file.try_clone().map(Stdio::from).map_err(failed("given files"));
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .args(Orders { layout, limits: self.limits, parent: std::process::id() }.to_args())
            .env_clear()
            .stdin(memory_file(module).map(Stdio::from).map_err(failed("given files"))?)
            .stdout(stdio(&code)?)
            .stderr(stdio(&said)?)
            .spawn()
            .map_err(failed("started"))?;
        let status = self.wait(&mut child)?;
        let read = |file: &mut File, max| read_from_start(file, max).map_err(failed("read from"));
        if status.success() {
            return read(&mut code, self.limits.code_mib << 20);
        }
        let said = String::from_utf8_lossy(&read(&mut said, SAID_BYTES_MAX)?).trim().to_owned();
        if status.code() == Some(i32::from(EXIT_REFUSED)) {
            return Err(CompileError::Module(said));
        }
        let CompileLimits { address_space_mib, code_mib, .. } = self.limits;
        Err(CompileError::Died { status, address_space_mib, code_mib, said })
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus, CompileError> {
        let ended = wait_until_ended(child, Duration::from_millis(self.limits.timeout_ms));
        if !matches!(ended, Ok(true)) {
            // It may have ended just now; either way it is gone and reaped after this.
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| self.failed("waited for", error))?;
        match ended {
            Ok(true) => Ok(status),
            Ok(false) => Err(CompileError::Timeout(self.limits.timeout_ms)),
            Err(error) => Err(self.failed("waited for", error)),
        }
    }

    fn failed(&self, what: &'static str, error: io::Error) -> CompileError {
        CompileError::Child { program: self.program.clone(), what, error }
    }
}

/// What the parent tells the child.
#[derive(Debug, PartialEq, Eq)]
struct Orders {
    layout: Layout,
    limits: CompileLimits,
    parent: u32,
}

impl Orders {
    fn to_args(&self) -> Vec<OsString> {
        let numbers = [
            self.layout.reservation,
            self.layout.guard,
            self.limits.timeout_ms,
            self.limits.address_space_mib,
            self.limits.code_mib,
            u64::from(self.limits.nice),
            u64::from(self.parent),
        ];
        numbers.iter().map(|number| number.to_string().into()).collect()
    }

    fn parse(args: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let number = |arg: OsString| arg.to_str()?.parse::<u64>().ok();
        let numbers: Vec<u64> = args.into_iter().map(number).collect::<Option<_>>()?;
        let [reservation, guard, timeout_ms, address_space_mib, code_mib, nice, parent] = *numbers else {
            return None;
        };
        Some(Self {
            layout: Layout { reservation, guard },
            limits: CompileLimits { timeout_ms, address_space_mib, code_mib, nice: u8::try_from(nice).ok()? },
            parent: u32::try_from(parent).ok()?,
        })
    }

    /// Sets the limits of this process, and that it dies with its parent.
    fn confine(&self) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        if parent != Some(self.parent) {
            return Err(io::Error::other("the worker is gone"));
        }
        let limit = |resource, value: u64| {
            // A node that runs within limits of its own may have less to give, and raising them is not for everybody.
            let most = rustix::process::getrlimit(resource).maximum.map_or(value, |most| most.min(value));
            rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
        };
        limit(Resource::As, self.limits.address_space_mib << 20)?;
        limit(Resource::Fsize, self.limits.code_mib << 20)?;
        limit(Resource::Core, 0)?;
        // A second bound on time, should the parent be stopped: all cores for as long as the child may take.
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        limit(Resource::Cpu, (self.limits.timeout_ms / 1000 + 1).saturating_mul(cores))?;
        rustix::process::setpriority_process(None, i32::from(self.limits.nice.min(19)))?;
        Ok(())
    }
}

fn compile_here(layout: Layout, module: &[u8]) -> Result<Vec<u8>, String> {
    let engine = wasmtime::Engine::new(&layout.config()).map_err(|error| format!("{error:#}"))?;
    engine.precompile_component(module).map_err(|error| {
        let hint = if module.starts_with(b"\0asm\x01\0\0\0") {
            "; this is a core module, not a component: build it with `tidegate build`"
        } else {
            ""
        };
        format!("{error:#}{hint}")
    })
}

fn explain(code: u8, reason: impl Display) -> ExitCode {
    // If even that fails, the exit code must do.
    let _ = writeln!(io::stderr(), "{reason}");
    ExitCode::from(code)
}

fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("tidegate-compile", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn read_from_start(file: &mut File, bytes_max: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the child has ended within the time. Does not reap it.
fn wait_until_ended(child: &Child, timeout: Duration) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn orders_survive_the_command_line(
            numbers: [u64; 5], nice: u8, parent: u32,
        ) {
            let [reservation, guard, timeout_ms, address_space_mib, code_mib] = numbers;
            let orders = Orders {
                layout: Layout { reservation, guard },
                limits: CompileLimits { timeout_ms, address_space_mib, code_mib, nice },
                parent,
            };
            prop_assert_eq!(Orders::parse(orders.to_args()), Some(orders));
        }
    }

    #[test]
    fn other_arguments_are_refused() {
        let os = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
        for args in
            [os(&[]), os(&["1"; 6]), os(&["1"; 8]), os(&["1", "1", "1", "1", "1", "256", "1"]), os(&["x"; 7])]
        {
            assert_eq!(Orders::parse(args), None);
        }
    }

    #[test]
    fn what_is_no_component_is_explained() {
        let layout = Layout { reservation: 1 << 20, guard: 1 << 16 };
        let core = compile_here(layout, b"\0asm\x01\0\0\0").unwrap_err();
        assert!(core.contains("tidegate build"), "{core}");
        assert!(!compile_here(layout, b"(module)").unwrap_err().is_empty());
    }
}
