//! What requests carry.

use serde_json::{Value, json};
use tidegate_base::{AppSpec, CpuShare};

use super::{Named, list, object, or_null, reference, strict, text, words};
use crate::verb::Verb;

/// The name of the schema of a verb's body.
pub(crate) const fn of_verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Send => "Send",
        Verb::Close => "Close",
        Verb::Destroy => "Destroy",
        Verb::Bind => "Bind",
        Verb::Unbind | Verb::ClearSession => "OfClients",
        Verb::Join | Verb::Leave => "Member",
        Verb::Disband | Verb::CountByGroup => "OfGroups",
        Verb::SetSession | Verb::UpdateSession => "WriteSession",
        Verb::Batch => "Batch",
        Verb::Count | Verb::CountUids | Verb::Clients | Verb::Uids | Verb::Groups => "Of",
        Verb::Select => "Select",
        Verb::Online => "Online",
    }
}

pub(super) fn all() -> Vec<Named> {
    [audiences(), commands(), questions(), deployments(), settings()].concat()
}

fn audiences() -> Vec<Named> {
    let one_or_many = |name: &str| json!({"anyOf": [reference(name), list(reference(name))]});
    let choice = |fields: &[(&str, Value)]| {
        let mut schema = strict(&[], fields);
        if let Some(parts) = schema.as_object_mut() {
            parts.extend([("minProperties".to_owned(), 1.into()), ("maxProperties".to_owned(), 1.into())]);
        }
        schema
    };
    let (clients, names) = (reference("Clients"), reference("Names"));
    let some = choice(&[
        ("clients", clients.clone()),
        ("client", clients.clone()),
        ("uids", names.clone()),
        ("uid", names.clone()),
        ("groups", names.clone()),
        ("group", names.clone()),
        ("all", json!({"type": "null"})),
    ]);
    let whole = json!({"type": "integer", "minimum": i64::MIN, "maximum": u64::MAX});
    vec![
        ("ClientId", json!({"type": "string", "pattern": "^[0-9a-f]{20}$"})),
        ("Clients", one_or_many("ClientId")),
        ("Name", json!({"anyOf": [{"type": "string", "minLength": 1}, whole]})),
        ("Names", one_or_many("Name")),
        ("Audience", json!({"anyOf": [{"const": "all"}, some]})),
        (
            "Online",
            choice(&[
                ("clients", clients.clone()),
                ("client", clients),
                ("uids", names.clone()),
                ("uid", names),
            ]),
        ),
    ]
}

/// A field that may be called by one name or by another.
fn either(schema: Value, one: &str, other: &str) -> Value {
    let mut schema = schema;
    if let Some(parts) = schema.as_object_mut() {
        parts.insert("oneOf".to_owned(), json!([{"required": [one]}, {"required": [other]}]));
    }
    schema
}

/// A message is one of three fields.
fn message() -> [(&'static str, Value); 3] {
    let base64 = || or_null(json!({"type": "string", "contentEncoding": "base64", "pattern": BASE64}));
    [("text", or_null(text())), ("base64", base64()), ("raw", base64())]
}

/// Padded, and with no bits that stand for nothing.
const BASE64: &str = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";

fn with_message(schema: Value) -> Value {
    let mut schema = schema;
    if let Some(parts) = schema.as_object_mut() {
        // null is as good as nothing.
        let is_there = |name: &str| {
            let properties = json!({name: {"type": "string"}});
            json!({"required": [name], "properties": properties, "additionalProperties": true})
        };
        parts.insert("oneOf".to_owned(), json!(message().map(|(name, _)| is_there(name))));
    }
    schema
}

fn commands() -> Vec<Named> {
    let (clients, names) = (reference("Clients"), reference("Names"));
    let (to, except) = (("to", reference("Audience")), ("except", clients.clone()));
    let of_clients = [("client", clients.clone()), ("clients", clients)];
    let of_groups = [("group", names.clone()), ("groups", names)];
    let session = ("session", json!({"description": "An object; anything else is refused"}));
    let mut send = vec![except.clone()];
    send.extend(message());
    let both = json!([
        {"oneOf": [{"required": ["client"]}, {"required": ["clients"]}]},
        {"oneOf": [{"required": ["group"]}, {"required": ["groups"]}]}
    ]);
    let mut member = strict(&[], &[of_clients.clone(), of_groups.clone()].concat());
    if let Some(parts) = member.as_object_mut() {
        parts.insert("allOf".to_owned(), both);
    }
    let close = [
        except.clone(),
        ("code", or_null(json!({"type": "integer", "minimum": 0, "maximum": 65_535}))),
        ("reason", or_null(text())),
        ("farewell", or_null(reference("Farewell"))),
    ];
    vec![
        ("Send", with_message(strict(std::slice::from_ref(&to), &send))),
        ("Farewell", with_message(strict(&[], &message()))),
        ("Close", strict(std::slice::from_ref(&to), &close)),
        ("Destroy", strict(&[to], &[except])),
        ("Bind", either(strict(&[("uid", reference("Name"))], &of_clients), "client", "clients")),
        ("OfClients", either(strict(&[], &of_clients), "client", "clients")),
        ("OfGroups", either(strict(&[], &of_groups), "group", "groups")),
        ("Member", member),
        ("WriteSession", either(strict(&[session], &of_clients), "client", "clients")),
        ("Session", json!({"description": "An object; anything else is refused"})),
        ("Deed", deed()),
        ("Batch", strict(&[("commands", list(reference("Deed")))], &[])),
    ]
}

/// One command of a batch: its verb, and what the verb takes.
fn deed() -> Value {
    let verbs = Verb::ALL.into_iter().filter(|verb| verb.is_command() && *verb != Verb::Batch);
    let one = |verb: Verb| strict(&[(verb.path(), reference(of_verb(verb)))], &[]);
    json!({"oneOf": verbs.map(one).collect::<Vec<_>>()})
}

fn questions() -> Vec<Named> {
    let of = ("of", reference("Audience"));
    let fields = ("fields", list(words(&["uid", "groups", "session"])));
    vec![("Of", strict(std::slice::from_ref(&of), &[])), ("Select", strict(&[of], &[fields]))]
}

fn deployments() -> Vec<Named> {
    let digest = json!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"});
    let number = json!({"type": "integer", "minimum": 0, "maximum": u32::MAX});
    vec![
        (
            "ModuleName",
            json!({"oneOf": [strict(&[("digest", digest)], &[]), strict(&[("version", number.clone())], &[])]}),
        ),
        ("RollBack", strict(&[], &[("to", or_null(number)), ("note", text())])),
    ]
}

/// Settings of apps and quotas of tenants: null is what is not set.
fn settings() -> Vec<Named> {
    let within = |min: u64, max: u64| or_null(json!({"type": "integer", "minimum": min, "maximum": max}));
    let spec = AppSpec::default();
    let mut fields: Vec<(&str, Value)> = spec
        .numbers()
        .into_iter()
        .map(|(key, _, range)| (key, within(*range.start(), *range.end())))
        .collect();
    let share = within(CpuShare::MIN.millis().into(), CpuShare::MAX.millis().into());
    let label = json!({"type": "string", "pattern": "^[a-z][a-z0-9-]{0,62}$"});
    let setting = json!({"anyOf": [
        strict(&[("plain", text())], &[]),
        strict(&[("secret", text())], &[]),
        {"const": "hidden"}
    ]});
    let heartbeat = object(
        &[("interval_ms", json!({"type": "integer", "minimum": 0, "maximum": 86_400_000}))],
        &[("misses_max", within(0, 255)), ("payload", or_null(text()))],
    );
    let origins = json!({"anyOf": [words(&["any", "same"]), strict(&[("list", list(text()))], &[])]});
    let grants =
        [("config", json!({"type": "boolean"})), ("environment", list(text())), ("keys", list(text()))];
    fields.extend([
        ("grants", strict(&[], &grants)),
        ("cpu_share_millis", share.clone()),
        ("on_failure", or_null(words(&["restart", "suspend"]))),
        ("slow_policy", or_null(words(&["disconnect", "drop-newest", "drop-oldest"]))),
        ("routes", list(text())),
        ("require", list(label)),
        ("settings", json!({"type": "object", "additionalProperties": setting})),
        ("origins", or_null(origins)),
        ("heartbeat", or_null(heartbeat)),
    ]);
    let count = || or_null(json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}));
    let quotas = ["apps_max", "slots_max", "memory_mib_max", "connections_max"].map(|name| (name, count()));
    vec![
        ("AppSpec", strict(&[], &fields)),
        ("Quotas", strict(&[], &[&quotas[..], &[("cpu_share_millis", share)]].concat())),
    ]
}
