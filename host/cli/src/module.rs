//! What `deploy` deploys: a folder, a file, or the digest of what is there already.

use std::path::Path;

use tidegate_base::{AppName, Digest};
use tidegate_build::{BuildRequest, Terminal};
use tidegate_node::config::Plugin;
use tidegate_node::{Config, ModuleRef, Overrides};

use crate::failure::Failure;

/// The module that was named; if none was, the plugin that the settings name for the app; if there are no settings, the
/// current folder.
pub(crate) fn find(
    app: &AppName,
    named: Option<&Path>,
    settings: Option<&Path>,
) -> Result<ModuleRef, Failure> {
    match named {
        Some(named) => match named.to_str().and_then(|text| text.strip_prefix("sha256:")) {
            Some(digest) => of_digest(digest).map(ModuleRef::Digest),
            None if named.is_dir() => build(named),
            None => read(named),
        },
        None => match of_settings(app, settings)? {
            Some(Plugin::Digest(digest)) => Ok(ModuleRef::Digest(digest)),
            Some(Plugin::Wasm(path)) => read(&path),
            Some(Plugin::Folder(path)) => build(&path),
            None => build(Path::new(".")),
        },
    }
}

/// A component's bytes, looked at before anybody else has to.
pub(crate) fn read(path: &Path) -> Result<ModuleRef, Failure> {
    tidegate_build::inspect(path).map_err(Failure::with(Failure::DATA))?;
    let unreadable = |error| Failure::new(Failure::DATA, format!("cannot read {}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(unreadable)?;
    Ok(ModuleRef::Bytes(bytes.into()))
}

fn build(folder: &Path) -> Result<ModuleRef, Failure> {
    let built = tidegate_build::build(&BuildRequest::new(folder), &mut Terminal::stderr())
        .map_err(Failure::with(Failure::DATA))?;
    read(&built.wasm)
}

fn of_digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error| Failure::new(Failure::USAGE, format!("sha256:{text}: {error}")))
}

fn of_settings(app: &AppName, settings: Option<&Path>) -> Result<Option<Plugin>, Failure> {
    let usual = Path::new("tidegate.toml");
    let path = match settings {
        Some(path) => path,
        None if usual.is_file() => usual,
        None => return Ok(None),
    };
    let config = Config::load(path, std::env::vars_os(), &Overrides::default())?;
    let found = config.apps.iter().find(|known| known.name == *app);
    if let Some(plugin) = found.and_then(|known| known.plugin.clone()) {
        return Ok(Some(plugin));
    }
    let known: Vec<_> = config.apps.iter().filter(|known| known.plugin.is_some()).collect();
    let known: Vec<_> = known.iter().map(|known| known.name.as_str()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(Failure::new(
        Failure::USAGE,
        format!(
            "{} names no plugin of app {app} (it does of: {known}); name the app as it is there, or what to deploy: a \
             plugin's folder, a .wasm file, or sha256:DIGEST",
            path.display()
        ),
    ))
}
