//! `new` and `build`.

use std::path::Path;

use serde_json::json;
use tidegate_build::{BuildRequest, NewError, Profile, Terminal};

use crate::args::{BuildArgs, NewArgs};
use crate::failure::{Failure, Outcome};
use crate::output::{print, print_json};

pub(crate) fn new(args: &NewArgs) -> Outcome {
    let created = tidegate_build::create(&args.name, Path::new(".")).map_err(|error| {
        let code = match &error {
            NewError::BadName { .. } => Failure::USAGE,
            _ => Failure::CANNOT_CREATE,
        };
        Failure::new(code, error.to_string())
    })?;
    let folder = created.folder.display();
    print(&[format!("made {folder}; next: tidegate dev {folder}")]);
    Ok(())
}

pub(crate) fn build(args: &BuildArgs) -> Outcome {
    let mut request = BuildRequest::new(&args.path);
    request.out.clone_from(&args.out);
    if args.dev {
        request.profile = Profile::Dev;
    }
    let built =
        tidegate_build::build(&request, &mut Terminal::stderr()).map_err(Failure::with(Failure::DATA))?;
    if args.json {
        let callbacks: Vec<_> = built.contract.exports.names().collect();
        print_json(&json!({
            "wasm": built.wasm,
            "digest": format!("sha256:{}", built.digest),
            "bytes": built.size,
            "package": built.package,
            "callbacks": callbacks,
            "seconds": built.took.as_secs_f64(),
            "unchanged": built.cached,
        }));
    } else {
        let inspection = tidegate_build::inspect(&built.wasm).map_err(Failure::with(Failure::DATA))?;
        print(&[built.wasm.display().to_string(), inspection.to_string()]);
    }
    Ok(())
}
