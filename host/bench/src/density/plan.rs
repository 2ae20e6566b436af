//! The folder of a server with many apps: settings, and modules that are the same or all different.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::APPS_MAX;
use crate::options::within;
use crate::{Error, Result};

/// What to write.
#[derive(Clone, Debug)]
pub struct DensityPlan {
    /// Where; made if it is not there. What is in it under the same names is replaced.
    pub folder: PathBuf,
    /// Apps, 1 to 10,000: `app-0`, `app-1` and so on.
    pub apps: u32,
    /// A component that sends each text back.
    pub module: PathBuf,
    /// Each app gets a module of its own, that differs from the others by a custom section.
    pub distinct: bool,
    /// `min_slots` of each app, whose slots then sleep after a tenth of a second. None: it is left out, and each app has its
    /// one instance at all times.
    pub min_slots: Option<u32>,
    /// The port that all of them share.
    pub listen: SocketAddr,
}

impl DensityPlan {
    /// The settings file.
    pub fn settings(&self) -> PathBuf {
        self.folder.join("tidegate.toml")
    }

    fn module_of(&self, app: u32) -> String {
        if self.distinct { format!("modules/{}.wasm", app_name(app)) } else { "plugin.wasm".to_owned() }
    }

    fn text(&self) -> String {
        let DensityPlan { apps, listen, .. } = self;
        let mut text = format!(
            "# {apps} apps on one port, written by `tidegate bench density --write`: start it with `tidegate up -c` this file\n\n"
        );
        if self.min_slots.is_none_or(|min| min > 0) {
            // All of them run, and one is swapped now and then.
            let _ = writeln!(text, "[worker]\ninstances = {}\n", apps + 16);
        }
        let _ = writeln!(text, "[[listener]]\naddress = \"ws://{listen}\"");
        for app in 0..*apps {
            let (name, plugin, host) = (app_name(app), self.module_of(app), host_of(app));
            let _ =
                writeln!(text, "\n[[app]]\nname = \"{name}\"\nplugin = \"{plugin}\"\nroutes = [\"{host}\"]");
            if let Some(min_slots) = self.min_slots {
                // More apps are asked one after the other than there are places for instances.
                let _ = writeln!(text, "min_slots = {min_slots}\nslot_idle_ms = 100");
            }
        }
        text
    }
}

/// Writes the settings file and the modules. Returns the settings file.
///
/// # Errors
/// The number of apps is out of its range, the module cannot be read or is no component, or the folder cannot be written.
pub fn write_density(plan: &DensityPlan) -> Result<PathBuf> {
    within("apps", plan.apps, 1, APPS_MAX)?;
    let read = fs::read(&plan.module);
    let module =
        read.map_err(|source| Error::File { doing: "reading", path: plan.module.clone(), source })?;
    if !module.starts_with(COMPONENT) {
        let path = plan.module.display();
        return Err(Error::option("module", format!("{path} is no WebAssembly component")));
    }
    let modules = if plan.distinct { plan.apps } else { 1 };
    make_folder(&plan.folder)?;
    if plan.distinct {
        make_folder(&plan.folder.join("modules"))?;
    }
    for app in 0..modules {
        let own = if plan.distinct { with_section(&module, app) } else { module.clone() };
        write(&plan.folder.join(plan.module_of(app)), &own)?;
    }
    let settings = plan.settings();
    write(&settings, plan.text().as_bytes())?;
    Ok(settings)
}

/// The name of the n-th app.
pub(super) fn app_name(app: u32) -> String {
    format!("app-{app}")
}

/// The host that leads to the n-th app.
pub(super) fn host_of(app: u32) -> String {
    format!("{}.test", app_name(app))
}

/// How a component begins.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const SECTION: &[u8] = b"tidegate-bench";

/// The component with a custom section that says a number.
fn with_section(component: &[u8], number: u32) -> Vec<u8> {
    let mut section = vec![SECTION.len() as u8];
    section.extend_from_slice(SECTION);
    section.extend_from_slice(&number.to_le_bytes());
    let mut bytes = component.to_vec();
    // Section 0 is a custom one; its length fits into one byte of LEB128.
    bytes.extend_from_slice(&[0, section.len() as u8]);
    bytes.extend_from_slice(&section);
    bytes
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| Error::File { doing: "making", path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|source| Error::File { doing: "writing", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is removed with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("tidegate-density-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn plan(folder: &Folder) -> DensityPlan {
        let module = folder.0.join("m.wasm");
        fs::write(&module, COMPONENT).unwrap();
        DensityPlan {
            folder: folder.0.join("many"),
            apps: 3,
            module,
            distinct: false,
            min_slots: None,
            listen: "127.0.0.1:7272".parse().unwrap(),
        }
    }

    #[test]
    fn apps_share_one_port_and_one_module() {
        let folder = Folder::new("shared");
        let settings = write_density(&plan(&folder)).unwrap();
        let text = fs::read_to_string(&settings).unwrap();
        assert!(text.contains("[[listener]]\naddress = \"ws://127.0.0.1:7272\""), "{text}");
        assert!(text.contains("instances = 19"), "{text}");
        let last = "[[app]]\nname = \"app-2\"\nplugin = \"plugin.wasm\"\nroutes = [\"app-2.test\"]\n";
        assert!(text.ends_with(last) && text.matches("[[app]]").count() == 3, "{text}");
        assert_eq!(fs::read(folder.0.join("many/plugin.wasm")).unwrap(), COMPONENT);
    }

    #[test]
    fn distinct_modules_are_the_module_and_a_section_that_says_which() {
        let folder = Folder::new("distinct");
        let plan = DensityPlan { distinct: true, min_slots: Some(0), ..plan(&folder) };
        let text = fs::read_to_string(write_density(&plan).unwrap()).unwrap();
        assert!(text.contains("plugin = \"modules/app-1.wasm\"") && text.contains("min_slots = 0"), "{text}");
        assert!(!text.contains("instances"), "{text}");
        let module = |app: u32| fs::read(plan.folder.join(plan.module_of(app))).unwrap();
        let expected = [COMPONENT, b"\0\x13\x0etidegate-bench\x01\0\0\0"].concat();
        assert_eq!(module(1), expected);
        assert_ne!(module(1), module(2));
    }

    #[test]
    fn what_is_no_component_is_refused() {
        let folder = Folder::new("refused");
        let plan = plan(&folder);
        fs::write(&plan.module, "nonsense").unwrap();
        let error = write_density(&plan).unwrap_err().to_string();
        assert!(error.contains("m.wasm is no WebAssembly component"), "{error}");
        let error = write_density(&DensityPlan { module: folder.0.join("none"), ..plan }).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }
}
