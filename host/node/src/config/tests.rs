//! What the settings promise.

use std::os::unix::fs::DirBuilderExt;

use proptest::prelude::*;
use tidegate_base::{CpuShare, Protocol, Rate};
use tidegate_gateway::settings::{Origins, SharedHeartbeat, SlowPolicy};
use tidegate_link::certs::Authority;
use tidegate_worker::OnFailure;

use super::*;
use crate::testing::Folder;

fn parse(text: &str) -> Result<Config, ConfigError> {
    with(text, &Overrides::default())
}

fn with(text: &str, flags: &Overrides) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/tidegate/t.toml"), [], flags)
}

fn wrong(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_an_all_in_one_on_loopback() {
    let config = parse("").unwrap();
    assert!(matches!(config.place, Place::AllInOne));
    assert_eq!(config.name.as_str(), "local");
    assert_eq!(config.data_dir, Path::new("/etc/tidegate/data"));
    assert!(config.shards >= 1 && config.apps.is_empty());
    assert!(config.register_listen.ip().is_loopback() && config.gateway.listen.ip().is_loopback());
}

#[test]
fn every_key_is_read() {
    let web = Folder::new();
    let text = format!(
        r#"
        [node]
        name = "n-1"
        data_dir = "var"
        roles = ["gateway", "worker", "register"]
        shards = 3
        log = "debug"
        stop_wait_ms = 1
        [cluster]
        name = "prod"
        [register]
        listen = "127.0.0.1:1"
        [gateway]
        listen = "127.0.0.1:2"
        advertise = "127.0.0.1:3"
        handshake_ms = 4
        decision_ms = 5
        slot_wait_ms = 6
        linger_ms = 7
        unrouted_max = 35
        io_uring = false
        [worker]
        labels = ["gpu", "eu"]
        instances = 8
        memory_mib = 99
        credit_events = 10
        credit_bytes = 1100
        command_queue_bytes_max = 12
        query_wait_ms = 13
        stop_wait_ms = 14
        sleep_state_mib = 37
        [[listener]]
        address = "ws://127.0.0.1:8080"
        origins = "any"
        heartbeat = {{ interval_ms = 36 }}
        [[app]]
        name = "chat"
        tenant = "acme"
        plugin = "plugins/chat"
        slots = 4
        min_slots = 1
        slot_idle_ms = 138
        require = ["eu"]
        listen = ["ws://127.0.0.1:7272", "text://127.0.0.1:7273"]
        routes = ["Acme.example.com", "*/chat"]
        web = "{}"
        origins = ["https://example.org"]
        heartbeat = {{ interval_ms = 16, misses_max = 17, payload = "hi" }}
        slow_policy = "drop-oldest"
        connections_max = 18
        client_events_max = 19
        client_messages_per_s = 31
        client_bytes_per_s = 32
        messages_per_s = 33
        bytes_per_s = 0
        connects_per_s = 34
        client_out_messages_per_s = 36
        client_out_bytes_per_s = 37
        out_messages_per_s = 38
        out_bytes_per_s = 39
        payload_bytes_max = 20
        out_bytes_max = 21
        session_bytes_max = 22
        groups_per_client_max = 23
        memory_mib = 24
        turn_cpu_ms = 25
        turn_wall_ms = 26
        cpu_share = 0.25
        turn_output_bytes_max = 27
        commands_per_turn_max = 35
        timers_max = 28
        state_bytes_max = 29
        module_bytes_max = 40
        keys_bytes_max = 41
        log_lines_per_s = 30
        on_failure = "suspend"
        [app.settings]
        greeting = "hello"
        times = 3
        loud = true
        "#,
        web.path().display()
    );
    let config = parse(&text).unwrap();
    assert_eq!((config.name.as_str(), config.shards, config.log.to_string().as_str()), ("n-1", 3, "debug"));
    assert_eq!(config.data_dir, Path::new("/etc/tidegate/var"));
    let ms = Duration::from_millis;
    assert_eq!((config.stop_wait, config.register_listen.port()), (ms(1), 1));
    let GatewayConfig { listen, advertise, listeners, unrouted_max, io_uring, times, client_ids } =
        config.gateway;
    assert_eq!((client_ids, io_uring), (None, false));
    let [shared] = &listeners[..] else { panic!("one listener") };
    assert_eq!((shared.address.port(), shared.heartbeat.as_ref().unwrap().interval), (8080, ms(36)));
    assert!(matches!(shared.origins, Origins::Any) && unrouted_max == 35);
    assert_eq!((listen.port(), advertise.unwrap().port()), (2, 3));
    assert_eq!((times.handshake, times.decision, times.slot, times.linger), (ms(4), ms(5), ms(6), ms(7)));
    let worker = config.worker;
    assert_eq!((worker.engine.instances, worker.engine.memory_mib), (8, 99));
    assert_eq!((worker.grant.events, worker.grant.bytes, worker.command_queue_bytes_max), (10, 1100, 12));
    assert_eq!((worker.query_wait, worker.stop_wait), (ms(13), ms(14)));
    assert_eq!(worker.sleep_state_bytes_max, 37 << 20);
    let [app] = &config.apps[..] else { panic!("one app") };
    assert_eq!((app.name.as_str(), app.slots), ("acme/chat", 4));
    assert_eq!((app.min_slots, app.slot_idle), (Some(1), ms(138)));
    let label = |label: &str| tidegate_base::Label::new(label).unwrap();
    assert_eq!((&worker.labels, &app.require), (&vec![label("gpu"), label("eu")], &vec![label("eu")]));
    assert_eq!(app.plugin, Some(Plugin::Folder("/etc/tidegate/plugins/chat".into())));
    assert_eq!(app.web.as_deref(), Some(web.path()));
    let routes: Vec<_> = app.shared.routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["acme.example.com", "*/chat"]);
    assert!(matches!(&app.shared.origins, Some(Origins::List(list)) if list.len() == 1));
    assert!(matches!(&app.shared.heartbeat, SharedHeartbeat::Own(own) if own.misses_max == 17));
    for (listener, protocol) in app.listeners.iter().zip([Protocol::Ws, Protocol::Text]) {
        assert_eq!(listener.protocol, protocol);
        assert!(matches!(&listener.origins, Origins::List(list) if list.len() == 1));
        let heartbeat = listener.heartbeat.as_ref().unwrap();
        assert_eq!((heartbeat.interval, heartbeat.misses_max), (ms(16), 17));
        assert_eq!(heartbeat.payload.as_deref(), Some(&b"hi"[..]));
    }
    let limits = app.limits;
    assert_eq!(limits.slow_policy, SlowPolicy::DropOldest);
    assert_eq!((limits.connections_max, limits.client_events_max, limits.payload_bytes_max), (18, 19, 20));
    let per_second = |rate: Option<Rate>, n| rate == Rate::per_second(n);
    assert!(per_second(limits.rates.client_messages, 31) && per_second(limits.rates.client_bytes, 32));
    assert!(per_second(limits.rates.messages, 33) && limits.rates.bytes.is_none());
    assert!(per_second(limits.rates.connects, 34));
    let rates = limits.rates;
    assert!(per_second(rates.client_out_messages, 36) && per_second(rates.client_out_bytes, 37));
    assert!(per_second(rates.out_messages, 38) && per_second(rates.out_bytes, 39));
    assert_eq!((limits.out_bytes_max, limits.session_bytes_max, limits.groups_per_client_max), (21, 22, 23));
    let instance = app.instance;
    assert_eq!((instance.memory_mib, instance.turn_cpu_ms, instance.turn_wall_ms), (24, 25, 26));
    assert_eq!((app.cpu_share, app.commands_per_turn_max), (CpuShare::from_millis(250), 35));
    assert_eq!((app.turn_output_bytes_max, app.timers_max, app.state_bytes_max), (27, 28, 29));
    assert_eq!((app.module_bytes_max, app.keys_bytes_max), (40, 41));
    assert_eq!((app.log_lines_per_s, app.on_failure), (30, OnFailure::Suspend));
    let settings: Vec<_> =
        app.settings.iter().map(|(key, value)| format!("{key}={}", value.expose().unwrap())).collect();
    assert_eq!(settings, ["greeting=hello", "loud=true", "times=3"]);
}

const APP: &str =
    "[[app]]\nname = \"a\"\nplugin = \"p\"\nlisten = [\"ws://127.0.0.1:0\", \"tcp://127.0.0.1:0\"]\n";

#[test]
fn web_socket_clients_have_a_heartbeat_by_default_and_pages_of_others_are_kept_out() {
    let heartbeats = |more: &str| {
        let config = parse(&format!("{APP}{more}")).unwrap();
        config.apps[0].listeners.iter().map(|l| l.heartbeat.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(heartbeats(""), [true, false]);
    assert_eq!(heartbeats("heartbeat = { interval_ms = 0 }"), [false, false]);
    assert_eq!(heartbeats("heartbeat = { interval_ms = 5 }"), [true, true]);
    let origins = |more: &str| parse(&format!("{APP}{more}")).unwrap().apps[0].listeners[0].origins.clone();
    assert!(matches!(origins(""), Origins::Same));
    assert!(matches!(origins("origins = \"any\""), Origins::Any));
}

#[test]
fn every_mistake_names_file_line_column_key_and_the_mend() {
    let text = |more: &str| format!("{APP}{more}\n");
    for (text, place, says) in [
        ("[node\n".to_owned(), "t.toml:1:6: ", ""),
        ("[node]\nnam = \"x\"\n".into(), "t.toml:2:1: node.nam: ", "did you mean `name`?"),
        ("[nodes]\n".into(), "t.toml:1:2: nodes: ", "did you mean `node`?"),
        ("[node]\nname = \"X\"\n".into(), "t.toml:2:8: node.name: ", "a-z, 0-9"),
        ("[node]\nshards = 0\n".into(), "t.toml:2:10: node.shards: ", "1 to 1024"),
        ("[node]\nlog = \"loud\"\n".into(), "t.toml:2:7: node.log: `loud`", "info,tidegate_gateway=debug"),
        ("[node]\nshards = \"2\"\n".into(), "t.toml:2:10: node.shards: ", "whole number"),
        ("[node]\nroles = [\"worker\", \"boss\"]\n".into(), "t.toml:2:9: node.roles: ", "`boss`"),
        ("[gateway]\nlisten = \"host:1\"\n".into(), "t.toml:2:10: gateway.listen: ", "IP:PORT"),
        (text("on_failure = \"ignore\""), "t.toml:5:14: app[0].on_failure: ", "restart or suspend"),
        (text("min_slots = 2"), "t.toml:5:13: app[0].min_slots: ", "lower it, or raise `slots`"),
        (text("slot_idle_ms = 99"), "t.toml:5:16: app[0].slot_idle_ms: ", "from 100 to 86400000"),
        (text("cpu_share = 0"), "t.toml:5:13: app[0].cpu_share: ", "from 0.01 to 1024"),
        (text("cpu_share = \"half\""), "t.toml:5:13: app[0].cpu_share: ", "a number of cores such as 0.5"),
        (text("require = [\"gpu\"]"), "t.toml:1:1: app", "to `labels` of [worker]"),
        (text("require = [\"GPU\"]"), "app[0].require", "a-z"),
        (text("log_lines_per_s = 0"), "t.toml:5:19: app[0].log_lines_per_s: ", "1 to 1000000"),
        (text("origins = \"all\""), "t.toml:5:11: app[0].origins: ", "\"same\", \"any\""),
        (text("origins = [\"example.org\"]"), "app[0].origins", "scheme://host"),
        (text("heartbeat = { interval = 5 }"), "app[0].heartbeat", "did you mean `interval_ms`?"),
        (text("heartbeat = {}"), "t.toml:5:13: app[0].heartbeat: ", "interval_ms"),
        (text("payload_max = 5"), "t.toml:5:1: app[0].payload_max: ", "payload_bytes_max"),
        (text("slow_policy = \"drop\""), "t.toml:5:15: app[0].slow_policy: ", "drop-newest"),
        (text("settings = { a = [1] }"), "app[0].settings.a", "flat"),
        (text("web = \"/no/such/folder\""), "t.toml:1:1: app", "/no/such/folder"),
        (text("memory_mib = 4000"), "t.toml:1:1: app", "raise that of [worker]"),
        (format!("{APP}{APP}"), "t.toml:5:1: app[1]", "two apps default/a"),
        ("[[app]]\nplugin = \"p\"\n".into(), "t.toml:1:1: app", "no name"),
        ("[[app]]\nname = \"a\"\nplugin = \"p\"\n".into(), "t.toml:1:1: app", "listens nowhere"),
        ("[[app]]\nname = \"a\"\nlisten = [\"ws://127.0.0.1:0\"]\n".into(), "t.toml:1:1: app", "no plugin"),
        (APP.replace(":0", ":7272"), "t.toml:1:1: app", "listened on twice"),
    ] {
        let error = wrong(&text);
        assert!(error.contains(place), "{text}: wanted {place}\n{error}");
        assert!(error.contains(says), "{text}: wanted {says}\n{error}");
    }
}

#[test]
fn an_app_is_reached_by_ports_of_its_own_or_by_routes_on_shared_ones() {
    const SHARED: &str = "[[listener]]\naddress = \"ws://127.0.0.1:8080\"\n";
    let app = |name: &str, more: &str| format!("[[app]]\nname = \"{name}\"\nplugin = \"p\"\n{more}\n");
    let chat = app("chat", "routes = [\"*/chat\"]");
    let config = parse(&format!("{SHARED}{chat}")).unwrap();
    assert!(config.apps[0].listeners.is_empty() && config.apps[0].shared.origins.is_none());
    assert_eq!(config.apps[0].shared.heartbeat, SharedHeartbeat::OfListener);
    assert!(matches!(config.gateway.listeners[0].origins, Origins::Same));
    assert!(config.gateway.listeners[0].heartbeat.is_some());
    let quiet = app("chat", "routes = [\"*\"]\nheartbeat = { interval_ms = 0 }");
    let config = parse(&format!("{SHARED}{quiet}")).unwrap();
    assert_eq!(config.apps[0].shared.heartbeat, SharedHeartbeat::Off);
    for (text, place, says) in [
        (chat.clone(), "t.toml:1:1: app[0]", "no port for them: add a `[[listener]]`"),
        (format!("{SHARED}{chat}{}", app("shop", "routes = [\"*/chat/\"]")), "app[1]", "default/chat has it"),
        (format!("{SHARED}{}", app("a", "")), "app[0]", "or `routes = "),
        (format!("{SHARED}{}", app("a", "routes = [\"*/a b\"]")), "t.toml:6:10: app[0].routes", "no spaces"),
        (format!("{SHARED}{}", app("a", "routes = [\"h:80\"]")), "app[0].routes", "without their port"),
        (
            format!("{SHARED}{}", app("a", "listen = [\"tcp://127.0.0.1:8080\"]")),
            "app[0]",
            "listened on twice",
        ),
        (format!("{SHARED}{SHARED}"), "t.toml:3:1: listener[1]", "listened on twice"),
        ("[[listener]]\n".to_owned(), "t.toml:1:1: listener", "no address"),
        ("[[listener]]\naddress = \"tcp://127.0.0.1:1\"\n".to_owned(), "listener", "write ws://"),
        ("[[listener]]\nlisten = \"ws://127.0.0.1:1\"\n".to_owned(), "listener", "there are address"),
    ] {
        let error = wrong(&text);
        assert!(error.contains(place), "{text}: wanted {place}\n{error}");
        assert!(error.contains(says), "{text}: wanted {says}\n{error}");
    }
    let many: Vec<_> = (0..65).map(|n| format!("\"*/{n}\"")).collect();
    let many = app("a", &format!("routes = [{}]", many.join(", ")));
    assert!(wrong(&format!("{SHARED}{many}")).contains("at most 64"));
}

#[test]
fn more_slots_than_instances_are_refused() {
    let error = wrong(&format!("[worker]\ninstances = 2\n{APP}slots = 3\n"));
    assert!(error.contains("3 slots") && error.contains("`instances`"), "{error}");
}

#[test]
fn an_app_that_requires_other_labels_is_no_part_of_a_worker_of_a_cluster() {
    let folder = certificate(Role::Worker);
    let text = |labels: &str| {
        let identity = folder.path().display();
        format!(
            "[cluster]\nidentity = \"{identity}\"\nregisters = [\"127.0.0.1:7010\"]\n[worker]\ninstances = 2\n\
             labels = {labels}\n[[app]]\nname = \"a\"\nplugin = \"a.wasm\"\nslots = 3\nrequire = [\"gpu\", \"eu\"]\n"
        )
    };
    let config = parse(&text("[\"eu\"]")).unwrap();
    assert!(!config.runs_here(&config.apps[0]));
    assert!(wrong(&text("[\"eu\", \"gpu\"]")).contains("3 slots"));
    let many = format!("{:?}", vec!["a"; 33]);
    assert!(wrong(&text(&many)).contains("there are 33, at most 32"));
}

#[test]
fn several_processes_need_certificates() {
    for text in ["[node]\nroles = [\"gateway\"]\n", "[cluster]\nregisters = [\"127.0.0.1:7010\"]\n"] {
        let error = wrong(text);
        assert!(error.contains("tidegate cert init") && error.contains("identity"), "{error}");
    }
    let error =
        with("", &Overrides { roles: Some(vec![Role::Register]), ..Overrides::default() }).unwrap_err();
    assert!(error.to_string().contains("no gateway and no worker"), "{error}");
    assert!(parse("[node]\nroles = [\"gateway\", \"worker\"]\n").is_ok());
}

/// A folder with the certificate of a role.
fn certificate(role: Role) -> Folder {
    let folder = Folder::new();
    let name = NodeName::new("n-1").unwrap();
    Authority::create("prod").unwrap().issue(role, &name, 1).unwrap().save(folder.path()).unwrap();
    folder
}

#[test]
fn a_certificate_says_what_a_node_of_a_cluster_is() {
    let folder = certificate(Role::Gateway);
    let cluster = |more: &str| {
        let identity = folder.path().display();
        format!("[cluster]\nidentity = \"{identity}\"\nregisters = [\"127.0.0.1:7010\"]\n{more}\n")
    };
    let config = parse(&cluster("")).unwrap();
    assert_eq!((config.name.as_str(), config.place.roles()), ("n-1", vec![Role::Gateway]));
    for (more, says) in [
        ("[node]\nroles = [\"worker\"]", "certificate of a gateway"),
        ("[node]\nroles = [\"gateway\", \"worker\"]", "every process runs one role"),
        ("[node]\nname = \"n-2\"", "tidegate cert node gateway n-2"),
        ("name = \"test\"", "the cluster prod"),
        ("[gateway]\nlisten = \"0.0.0.0:7011\"", "`advertise`"),
        ("[gateway]\nadvertise = \"10.0.0.1:0\"", "`advertise`"),
        ("[[app]]\nname = \"a\"\nplugin = \"p\"", "listens nowhere"),
    ] {
        let error = wrong(&cluster(more));
        assert!(error.contains(says), "{more}: {error}");
    }
    assert!(parse(&cluster("[[app]]\nname = \"a\"\nlisten = [\"ws://127.0.0.1:0\"]")).is_ok());
    let alone = format!("[cluster]\nidentity = \"{}\"\n", folder.path().display());
    assert!(wrong(&alone).contains("[cluster] registers"));
}

#[test]
fn operators_run_no_nodes_and_missing_certificates_are_named() {
    let folder = certificate(Role::Operator);
    let text = |path: &Path| format!("[cluster]\nidentity = \"{}\"\n", path.display());
    assert!(wrong(&text(folder.path())).contains("an operator, who runs no node"));
    let error = wrong(&text(Path::new("/no/such/folder")));
    assert!(error.contains("/no/such/folder") && error.contains("tidegate cert"), "{error}");
}

#[test]
fn flags_are_stronger_than_the_environment_which_is_stronger_than_the_file() {
    let folder = certificate(Role::Worker);
    let text = "[node]\nname = \"f\"\ndata_dir = \"f\"\nroles = [\"gateway\"]\nshards = 1\nlog = \"warn\"\n[cluster]\n\
                registers = [\"127.0.0.1:1\"]\nidentity = \"f\"\n";
    let variables: Vec<(OsString, OsString)> = [
        ("TIDEGATE_NODE_NAME", "e"),
        ("TIDEGATE_NODE_DATA_DIR", "/e"),
        ("TIDEGATE_NODE_ROLES", "register"),
        ("TIDEGATE_NODE_SHARDS", "2"),
        ("TIDEGATE_NODE_LOG", "error"),
        ("TIDEGATE_CLUSTER_REGISTERS", "127.0.0.1:2"),
        ("TIDEGATE_CLUSTER_IDENTITY", "/e"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    let flags = Overrides {
        name: Some("n-1".into()),
        data_dir: Some("/flag".into()),
        roles: Some(vec![Role::Worker]),
        shards: Some(3),
        log: Some("trace".into()),
        registers: Some(vec![SocketAddr::from(([127, 0, 0, 1], 3))]),
        identity: Some(folder.path().to_owned()),
    };
    let config = Config::parse(text, Path::new("/t.toml"), variables, &flags).unwrap();
    assert_eq!((config.name.as_str(), config.shards, config.log.to_string().as_str()), ("n-1", 3, "trace"));
    assert_eq!(config.data_dir, Path::new("/flag"));
    let Place::Member { registers, .. } = &config.place else { panic!("a member") };
    assert_eq!(registers[0].port(), 3);
    let error = with("", &Overrides { shards: Some(0), ..Overrides::default() }).unwrap_err().to_string();
    assert!(error.contains("--shards") && error.contains("1 to 1024"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let path = Path::new("/no/such/file.toml");
    let error = Config::load(path, [], &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("/no/such/file.toml") && error.contains("-c"), "{error}");
}

#[test]
fn a_web_folder_is_relative_to_the_file() {
    let folder = Folder::new();
    std::fs::DirBuilder::new().mode(0o700).create(folder.path().join("web")).unwrap();
    let path = folder.path().join("t.toml");
    let config = Config::parse(&format!("{APP}web = \"web\"\n"), &path, [], &Overrides::default()).unwrap();
    assert_eq!(config.apps[0].web, Some(folder.path().join("web")));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\[\\[?[a-z]{0,8}\\]?\\]?\n|[a-z_]{1,8} = [\"a-z0-9\\[\\]{}=, ]{0,20}\n|.{0,9}){0,8}") {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
