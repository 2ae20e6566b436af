//! `cert`: the authority of a cluster, and what it issues.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::json;
use tidegate_base::{NodeName, Role};
use tidegate_link::certs::{Authority, Identity, IdentityError};

use crate::args::{CertCommand, CertPlace};
use crate::failure::{Failure, Outcome};
use crate::output::{columns, print, print_json};

/// The authority's folder among those of the certificates.
const AUTHORITY: &str = "ca";

pub(crate) fn run(command: CertCommand) -> Outcome {
    match command {
        CertCommand::Init { cluster, dir } => init(&cluster, &dir),
        CertCommand::Node { role, name, place } => issue(role, &name, &place),
        CertCommand::Operator { name, place } => issue(Role::Operator, &name, &place),
        CertCommand::Show { path, json } => show(&path, json),
    }
}

fn init(cluster: &str, dir: &Path) -> Outcome {
    let folder = dir.join(AUTHORITY);
    Authority::create(cluster).and_then(|authority| authority.save(&folder)).map_err(failure)?;
    print(&[
        format!("made the authority of the cluster {cluster} in {}", folder.display()),
        "its key makes nodes and operators: keep it off the nodes, and safe".to_owned(),
        "next: tidegate cert node register NAME; tidegate cert node gateway NAME; …".to_owned(),
    ]);
    Ok(())
}

fn issue(role: Role, name: &NodeName, place: &CertPlace) -> Outcome {
    let authority = place.dir.join(AUTHORITY);
    let authority = Authority::load(&authority).map_err(|error| match error {
        IdentityError::Read { path, reason } => Failure::new(
            Failure::CONFIG,
            format!(
                "cannot read {}: {reason}; make the cluster's authority with `tidegate cert init`, or name its folder \
                 with --dir",
                path.display()
            ),
        ),
        other => failure(other),
    })?;
    let folder = place.dir.join(name.as_str());
    let identity = authority.issue(role, name, place.days).map_err(failure)?;
    identity.save(&folder).map_err(failure)?;
    print(&[format!("made {} in {}, valid for {} days", identity.uri(), folder.display(), place.days)]);
    Ok(())
}

fn show(path: &Path, as_json: bool) -> Outcome {
    let folders = folders(path)?;
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for folder in folders {
        let shown = match Identity::load(&folder) {
            Ok(identity) => {
                let days = days_left(identity.not_after());
                all.push(json!({ "folder": folder, "uri": identity.uri().to_string(), "days_left": days }));
                vec![identity.uri().to_string(), format!("{days} days left")]
            }
            Err(error) => {
                all.push(json!({ "folder": folder, "error": error.to_string() }));
                vec![error.to_string()]
            }
        };
        rows.push([vec![folder.display().to_string()], shown].concat());
    }
    if as_json {
        print_json(&json!(all));
    } else {
        print(&columns(&rows));
    }
    Ok(())
}

/// The folder itself if it holds a certificate, else those in it that do.
fn folders(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let holds = |folder: &Path| folder.join("cert.pem").is_file();
    if holds(path) {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| {
        let path = path.display();
        Failure::new(
            Failure::CONFIG,
            format!("{path}: {error}; name the folder of a certificate, or of several"),
        )
    })?;
    let mut found: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|folder| holds(folder)).collect();
    found.sort();
    if found.is_empty() {
        let path = path.display();
        return Err(Failure::new(
            Failure::CONFIG,
            format!("there are no certificates in {path}: make some with `tidegate cert node ROLE NAME`"),
        ));
    }
    Ok(found)
}

fn days_left(not_after: SystemTime) -> u64 {
    not_after.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / 86_400)
}

fn failure(error: IdentityError) -> Failure {
    let code = match &error {
        IdentityError::Name(_) | IdentityError::Days(_) => Failure::USAGE,
        IdentityError::Exists { .. } | IdentityError::Write { .. } => Failure::CANNOT_CREATE,
        IdentityError::Generate(_) => Failure::SOFTWARE,
        _ => Failure::CONFIG,
    };
    Failure::new(code, error.to_string())
}
