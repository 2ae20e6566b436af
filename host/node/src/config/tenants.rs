//! `[[tenant]]`: what the apps of a tenant may have together.

use std::collections::BTreeMap;

use tidegate_base::{AppName, AppSpec, Quotas, Role, Usage};
use toml::Spanned;

use super::file;
use super::locate::Source;
use super::values::Within;
use super::{Config, ConfigError, mistake};

/// Takes the tenants of the file in; its apps must be within their quotas.
pub(super) fn resolve(
    config: &mut Config,
    tenants: Vec<Spanned<file::Tenant>>,
    apps: &[(AppName, AppSpec)],
    source: Source<'_>,
) -> Result<(), ConfigError> {
    let mut all = BTreeMap::new();
    for tenant in tenants {
        let span = tenant.span();
        let wrong = |reason: String| Err(mistake(source.at(&span, reason)));
        let file::Tenant { name, apps_max, slots_max, memory_mib_max, connections_max, cpu_share } =
            tenant.into_inner();
        if !config.place.runs(Role::Register) {
            return wrong(
                "a register keeps the tenants: write [[tenant]] into the register's settings file, not into this one"
                    .to_owned(),
            );
        }
        let Some(name) = name.and_then(|label| label.get().ok()) else {
            return wrong("the tenant has no name: add `name = \"…\"` to it".to_owned());
        };
        let quotas = Quotas {
            apps_max: apps_max.map(Within::get),
            slots_max: slots_max.map(Within::get),
            memory_mib_max: memory_mib_max.map(Within::get),
            connections_max: connections_max.map(Within::get),
            cpu_share_millis: cpu_share.map(|share| share.0.millis().into()),
        };
        let own = apps.iter().filter(|(app, _)| app.tenant() == name.as_str());
        let usage = own.map(|(_, spec)| Usage::of(spec)).fold(Usage::default(), Usage::plus);
        if let Err(over) = quotas.check(usage) {
            return wrong(format!(
                "tenant {name} may have {} {}, but the apps of this file have {}: lower what they have, or raise `{}`",
                over.max,
                over.quota.of(),
                over.comes_to,
                over.quota.key()
            ));
        }
        if all.insert(name.clone(), quotas).is_some() {
            return wrong(format!("there are two tenants {name}: put their quotas together"));
        }
    }
    config.tenants = all;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tidegate_base::Label;

    use super::*;
    use crate::config::Overrides;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/tidegate/t.toml"), [], &Overrides::default())
    }

    const APP: &str = "[[app]]\nname = \"a\"\ntenant = \"acme\"\nplugin = \"p\"\nslots = 3\nlisten = [\"ws://127.0.0.1:0\"]\n";

    #[test]
    fn tenants_have_quotas_that_hold_for_the_apps_of_the_file_too() {
        let config =
            parse(&format!("{APP}[[tenant]]\nname = \"acme\"\nslots_max = 3\napps_max = 2\n")).unwrap();
        let acme = &config.tenants[&Label::new("acme").unwrap()];
        assert_eq!((acme.slots_max, acme.apps_max, acme.memory_mib_max), (Some(3), Some(2), None));
        let shared = parse(&format!("{APP}[[tenant]]\nname = \"acme\"\ncpu_share = 0.25\n")).unwrap();
        assert_eq!(shared.tenants[&Label::new("acme").unwrap()].cpu_share_millis, Some(250));
        let error =
            parse(&format!("{APP}[[tenant]]\nname = \"acme\"\nslots_max = 2\n")).unwrap_err().to_string();
        assert!(error.contains("t.toml:7:1: ") && error.contains("may have 2 slots"), "{error}");
        assert!(error.contains("have 3") && error.contains("raise `slots_max`"), "{error}");
    }

    #[test]
    fn a_tenant_has_one_name_and_one_table() {
        for (text, says) in [
            ("[[tenant]]\nslots_max = 1\n", "no name"),
            ("[[tenant]]\nname = \"a\"\n[[tenant]]\nname = \"a\"\n", "two tenants a"),
            ("[[tenant]]\nname = \"a\"\nslots = 1\n", "did you mean `slots_max`?"),
            ("[[tenant]]\nname = \"A\"\n", "a-z"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
