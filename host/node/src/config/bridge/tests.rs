use super::super::{Config, ConfigError, Overrides};
use super::*;

/// A settings file with such bridges, and with the secret in a variable that every test run has.
fn parse(text: &str) -> Result<Config, ConfigError> {
    let text = text.replace("SECRET", "secret = { env = \"PATH\" }");
    Config::parse(&text, Path::new("/etc/tidegate/tidegate.toml"), [], &Overrides::default())
}

const BRIDGE: &str = "[[bridge]]\napp = \"acme/chat\"\nregister = \"127.0.0.1:1238\"\nSECRET\n";

#[test]
fn every_key_is_read_and_the_secret_is_not_shown() {
    let text = format!(
        "{BRIDGE}gateway = \"10.0.0.5:2900-2903\"\nconnections_max = 1\nframe_bytes_max = 5000\nrequests_max = 3\n\
         idle_wait_ms = 4\n{BRIDGE}gateway = \"127.0.0.0/8:2900\"\n"
    );
    let config = parse(&text).unwrap();
    let [given, defaults] = &config.bridges[..] else { panic!("two bridges") };
    assert_eq!((given.app.as_str(), given.register.port()), ("acme/chat", 1238));
    assert_eq!(given.gateway.to_string(), "10.0.0.5:2900-2903");
    let idle_wait = Duration::from_millis(4);
    assert_eq!((given.connections_max, given.frame_bytes_max, given.requests_max), (1, 5000, 3));
    assert_eq!(given.idle_wait, idle_wait);
    let app = AppName::new("acme/chat").unwrap();
    let same = BridgeSettings::new(app, defaults.register, defaults.gateway, defaults.secret.clone());
    assert_eq!(*defaults, same);
    assert!(!format!("{config:?}").contains(&std::env::var("PATH").unwrap()));
}

#[test]
fn an_all_in_one_draws_its_id_where_its_first_bridge_finds_it() {
    let ids = |text: &str| parse(text).map(|config| config.gateway.client_ids);
    let of = |doors: &str| match doors.parse() {
        Ok(Doors::Network(network)) => Some(network),
        _ => None,
    };
    let bridge = |doors: &str| format!("{BRIDGE}gateway = \"{doors}\"\n");
    assert_eq!(ids("").unwrap(), None);
    assert_eq!(ids(&bridge("127.0.0.0/8:2900")).unwrap(), of("127.0.0.0/8:2900"));
    assert_eq!(ids(&bridge("127.0.0.0/8:0")).unwrap(), None);
    assert_eq!(ids(&bridge("127.0.0.1:2900")).unwrap(), None);
    let own = "[gateway]\nclient_ids = \"10.77.0.0/16:1\"\n";
    assert_eq!(ids(&(own.to_owned() + &bridge("127.0.0.0/8:2900"))).unwrap(), of("10.77.0.0/16:1"));
    for wrong in ["127.0.0.1:2900", "127.0.0.0/8:0"] {
        let error = ids(&format!("[gateway]\nclient_ids = \"{wrong}\"\n")).unwrap_err().to_string();
        assert!(error.contains("client_ids") && error.contains("127.0.0.0/8:2900"), "{error}");
    }
}

#[test]
fn what_is_missing_or_wrong_is_told_with_how_to_mend_it() {
    let full = format!("{BRIDGE}gateway = \"127.0.0.0/8:2900\"\n");
    for (line, without, says) in [
        ("app = \"acme/chat\"\n", "", "no `app`"),
        ("register = \"127.0.0.1:1238\"\n", "", "no `register`"),
        ("gateway = \"127.0.0.0/8:2900\"\n", "", "no `gateway`"),
        ("SECRET\n", "", "no `secret`"),
        ("SECRET\n", "secret = \"hunter2\"\n", "does not stand in the settings"),
        ("SECRET\n", "secret = { file = \"none/such\" }\n", "cannot read /etc/tidegate/none/such"),
        ("SECRET\n", "secret = { file = \"/dev/null\" }\n", "`secret` is empty"),
        ("127.0.0.0/8:2900", "localhost:2900", "NETWORK:PORT"),
        ("acme/chat", "Chat", "is not a name"),
    ] {
        let error = parse(&full.replace(line, without)).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
        assert!(!error.contains("hunter2") || without.contains("hunter2"), "{error}");
    }
    assert!(parse(&full.repeat(BRIDGES_MAX)).is_ok());
    assert!(parse(&full.repeat(BRIDGES_MAX + 1)).unwrap_err().to_string().contains("more than 64"));
}
