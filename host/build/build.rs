//! Lists the files of the SDK, so that the binary can carry them for `tidegate new`.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What of the SDK a plugin needs, relative to `sdk/`.
const PARTS: [&str; 2] = ["rust", "wit"];

/// Names of files and folders that a plugin doesn't need.
const LEFT_OUT: [&str; 6] = ["Cargo.lock", "benches", "examples", "proptest-regressions", "target", "tests"];

fn main() -> Result<(), Box<dyn Error>> {
    let sdk = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../sdk").canonicalize()?;
    let mut files = Vec::new();
    for part in PARTS {
        list(&sdk.join(part), &mut files)?;
    }
    files.sort();
    let mut code = String::from("pub(super) const SDK_FILES: &[(&str, &[u8])] = &[\n");
    for file in &files {
        let name = file.strip_prefix(&sdk)?.to_str().ok_or("the SDK has a file whose name is not UTF-8")?;
        writeln!(code, "    ({name:?}, include_bytes!({:?})),", file.to_str().ok_or("not UTF-8")?)?;
    }
    code.push_str("];\n");
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("sdk_files.rs"), code)?;
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

/// Add the files below a folder of the SDK to `files`.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if LEFT_OUT.contains(&&*name) || name.starts_with('.') {
            continue;
        }
        // Not the folder itself: cargo looks into everything below, and a folder `target` there changes all the time.
        println!("cargo::rerun-if-changed={}", entry.path().display());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
