//! What is answered.

use serde_json::{Value, json};

use super::{Named, boolean, list, number, object, or_null, reference, text, words};

pub(super) fn all() -> Vec<Named> {
    [pushes(), versions(), apps(), deployments(), reports(), administration()].concat()
}

fn pushes() -> Vec<Named> {
    let missing = ("missing", list(reference("Missing")));
    let why = words(&["not-linked", "busy", "refused", "lost", "late"]);
    let effect = json!({"oneOf": [
        object(&[("reached", number())], &[]),
        object(&[("refused", text())], &[])
    ]});
    let client = object(
        &[("client", reference("ClientId"))],
        &[
            ("uid", or_null(text())),
            ("groups", list(text())),
            ("session", or_null(json!({"type": "object"}))),
        ],
    );
    let answer = object(
        std::slice::from_ref(&missing),
        &[
            ("count", number()),
            ("counts", json!({"type": "object", "additionalProperties": number()})),
            (
                "clients",
                json!({"type": "array", "items": {"anyOf": [reference("ClientId"), reference("Client")]}}),
            ),
            ("uids", list(text())),
            ("groups", list(text())),
            ("online", json!({"type": "object", "additionalProperties": boolean()})),
            ("client", reference("Client")),
            ("refused", text()),
        ],
    );
    let gateway = json!({"type": "string", "description": "The first 12 digits of its clients' ids"});
    vec![
        ("Missing", object(&[("gateway", gateway), ("name", text()), ("why", why)], &[])),
        ("Reached", object(&[("reached", number()), missing.clone()], &[])),
        ("Results", object(&[("results", list(effect)), missing], &[])),
        ("Client", client),
        ("Answer", answer),
    ]
}

fn versions() -> Vec<Named> {
    let digest = json!({"type": "string", "pattern": "^[0-9a-f]{64}$"});
    let canary = object(&[("percent", number()), ("for_ms", number()), ("events_min", number())], &[]);
    let reason = object(&[("reason", text())], &[]);
    let outcome = json!({"anyOf": [
        {"const": "committed"},
        object(&[("rolled-back", reason.clone())], &[]),
        object(&[("mixed", reason)], &[])
    ]});
    let state = json!({"anyOf": [
        object(&[("running", text())], &[]),
        object(&[("ended", reference("Outcome"))], &[])
    ]});
    let entry = object(
        &[
            ("version", reference("VersionRef")),
            ("again", or_null(number())),
            ("by", text()),
            ("note", text()),
            ("at_ms", number()),
            ("canary", or_null(reference("Canary"))),
            ("state", state),
        ],
        &[("report", reference("SwapReport"))],
    );
    vec![
        ("VersionRef", object(&[("number", number()), ("digest", digest)], &[])),
        ("Canary", canary),
        ("Outcome", outcome),
        ("Version", entry),
        ("Versions", object(&[("versions", list(reference("Version")))], &[])),
    ]
}

fn apps() -> Vec<Named> {
    let failure = object(&[("slot", or_null(number())), ("stage", text()), ("reason", text())], &[]);
    let tally = [("turns", number()), ("errors", number()), ("traps", number()), ("overruns", number())];
    let of_version = [&[("version", number()), ("slots_trapped", number())][..], &tally].concat();
    let worker = object(
        &[
            ("worker", text()),
            ("slots", list(or_null(number()))),
            ("step", or_null(text())),
            ("failure", or_null(reference("Failure"))),
            ("tallies", list(object(&of_version, &[]))),
            ("asleep", number()),
        ],
        &[],
    );
    let deploying = object(
        &[("version", reference("VersionRef")), ("by", text()), ("at_ms", number()), ("doing", text())],
        &[],
    );
    let app = object(
        &[
            ("app", text()),
            ("stable", or_null(reference("VersionRef"))),
            ("deploying", or_null(reference("Underway"))),
            ("workers", list(reference("Worker"))),
            ("created", or_null(reference("Created"))),
            ("health", reference("Tally")),
        ],
        &[],
    );
    vec![
        ("Failure", failure),
        ("Tally", object(&tally, &[])),
        ("Worker", worker),
        ("Underway", deploying),
        ("App", app),
        ("Apps", object(&[("apps", list(reference("App")))], &[])),
    ]
}

fn deployments() -> Vec<Named> {
    let deploying = object(
        &[
            ("app", text()),
            ("stable", or_null(reference("VersionRef"))),
            ("deploying", reference("Underway")),
            ("workers", list(reference("Worker"))),
        ],
        &[],
    );
    let kinds = words(&[
        "started",
        "worker",
        "canary",
        "switching",
        "failed",
        "going-back",
        "not-stored",
        "waiting",
        "ended",
        "refused",
    ]);
    let news = object(
        &[("news", kinds), ("text", text())],
        &[
            ("version", reference("VersionRef")),
            ("workers", number()),
            ("worker", text()),
            ("step", text()),
            ("switched", number()),
            ("slots", number()),
            ("of", number()),
            ("verdict", or_null(text())),
            ("failure", reference("Failure")),
            ("reason", text()),
            ("outcome", words(&["committed", "rolled-back", "mixed"])),
            ("report", reference("SwapReport")),
            ("problem", reference("Problem")),
        ],
    );
    vec![
        ("Deploying", deploying),
        ("Cancelled", object(&[("app", text()), ("cancelled", json!({"const": true}))], &[])),
        ("News", news),
    ]
}

fn numbers(names: &[&'static str]) -> Vec<(&'static str, Value)> {
    names.iter().map(|name| (*name, number())).collect()
}

fn reports() -> Vec<Named> {
    let clients =
        numbers(&["gateways", "gateways_missing", "before", "after", "opened", "closed", "events", "lost"]);
    let pauses =
        [numbers(&["longest_us", "longest_slot", "p99_us"]), vec![("longest_worker", text())]].concat();
    let turn =
        [numbers(&["slot", "to", "after_turn"]), vec![("worker", text()), ("from", or_null(number()))]]
            .concat();
    let times = [
        numbers(&["prepare_us", "switch_us", "canary_us", "back_us", "total_us"]),
        vec![("first_event_us", or_null(number()))],
    ]
    .concat();
    let canary = object(
        &[
            ("asked", reference("Canary")),
            ("slots", number()),
            ("old", reference("Tally")),
            ("new", reference("Tally")),
            ("verdict", text()),
        ],
        &[],
    );
    let counts = [
        "at_ms",
        "workers",
        "slots",
        "switched",
        "switched_back",
        "timers_carried",
        "timers_dropped",
        "state_bytes",
        "states_lost",
        "waiting_events",
    ];
    let rest = [
        ("app", text()),
        ("version", reference("VersionRef")),
        ("again", or_null(number())),
        ("previous", or_null(reference("VersionRef"))),
        ("outcome", reference("Outcome")),
        ("away", list(text())),
        ("clients", or_null(object(&clients, &[]))),
        ("pauses", or_null(object(&pauses, &[]))),
        ("audit", object(&numbers(&["lost", "repeated", "reordered"]), &[])),
        ("turns", list(object(&turn, &[]))),
        ("times", object(&times, &[])),
        ("canary", or_null(canary)),
    ];
    vec![("SwapReport", object(&[numbers(&counts), rest.to_vec()].concat(), &[]))]
}

fn administration() -> Vec<Named> {
    let node = [("role", text()), ("name", text())];
    let trouble = object(&[("node", object(&node, &[])), ("app", text()), ("reason", text())], &[]);
    let troubles = ("troubles", list(trouble));
    let created = object(
        &[
            ("suspended", boolean()),
            ("tenant_suspended", boolean()),
            ("spec", reference("AppSpec")),
            troubles.clone(),
        ],
        &[],
    );
    let effect = object(
        &[("revision", number()), ("apps", list(text())), ("behind", list(object(&node, &[]))), troubles],
        &[],
    );
    let usage = numbers(&["apps", "slots", "memory_mib", "connections", "cpu_share_millis"]);
    let tenant = object(
        &[
            ("tenant", text()),
            ("fixed", boolean()),
            ("suspended", boolean()),
            ("quotas", reference("Quotas")),
            ("usage", object(&usage, &[])),
        ],
        &[],
    );
    let on_node = numbers(&["clients", "slots", "asleep", "turns", "failed"]);
    let status = object(
        &[
            ("node", text()),
            ("roles", list(text())),
            ("version", text()),
            ("uptime_s", number()),
            ("ready", boolean()),
            ("apps", list(object(&[("app", text())], &on_node))),
        ],
        &[],
    );
    let in_cluster = object(&node, &[("address", text()), ("gateway", text())]);
    vec![
        ("Created", created),
        ("Effect", effect),
        ("Tenant", tenant),
        ("Tenants", object(&[("tenants", list(reference("Tenant")))], &[])),
        ("Nodes", object(&[("nodes", list(in_cluster))], &[])),
        ("Status", status),
    ]
}
