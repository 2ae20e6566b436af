//! All figures as one JSON, for programs. The names of its fields are an API.

use serde_json::{Map, Value, json};
use tidegate_telemetry::Histogram;

use super::figures::{AppFigures, Figures, Load, NodeFigures, TenantFigures};

pub(crate) fn told(figures: &Figures) -> Value {
    let Figures { over, nodes, tenants, apps } = figures;
    json!({
        "interval_ms": over.map(|over| over.as_millis() as u64),
        "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
        "tenants": tenants.iter().map(tenant).collect::<Vec<_>>(),
        "apps": apps.iter().map(app).collect::<Vec<_>>(),
    })
}

fn node(figures: &NodeFigures) -> Value {
    let NodeFigures { name, role, silent, ready, version, uptime_s, load } = figures;
    let own = json!({
        "node": name, "role": role, "silent": silent, "ready": ready, "version": version, "uptime_s": uptime_s
    });
    with(own, load)
}

fn tenant(figures: &TenantFigures) -> Value {
    let TenantFigures { name, apps, load } = figures;
    with(json!({ "tenant": name, "apps": apps }), load)
}

fn app(figures: &AppFigures) -> Value {
    let AppFigures { name, versions, load } = figures;
    with(json!({ "app": name, "versions": versions }), load)
}

fn with(own: Value, load: &Load) -> Value {
    let mut fields = match own {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let micros = |times: &Histogram, share| times.quantile(share).map(|time| time.as_micros() as u64);
    let load = json!({
        "clients": load.clients,
        "slots": load.slots,
        "slots_failing": load.failing,
        "events_per_s": load.events_per_s,
        "turns_per_s": load.turns_per_s,
        "failures_per_s": load.failures_per_s,
        "failed": load.failed,
        "turn_p50_us": micros(&load.turn, 0.5),
        "turn_p99_us": micros(&load.turn, 0.99),
        "queue_p50_us": micros(&load.queue, 0.5),
        "queue_p99_us": micros(&load.queue, 0.99),
        "cpu_cores": load.cpu,
        "memory_bytes": load.memory_bytes,
    });
    if let Value::Object(load) = load {
        fields.extend(load);
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::super::figures::Sample;
    use super::super::figures::tests::{app, heard, ms};
    use super::*;

    #[test]
    fn programs_get_every_figure_by_its_name() {
        let sample =
            |at, turns| Sample { at: ms(at), nodes: vec![heard("n", 1, at, vec![app("acme/chat", turns)])] };
        let told = told(&Figures::between(Some(&sample(0, 0)), &sample(1000, 50)));
        assert_eq!((&told["interval_ms"], &told["nodes"][0]["cpu_cores"]), (&json!(1000), &json!(1.0)));
        let app = &told["apps"][0];
        assert_eq!(
            (&app["app"], &app["versions"], &app["turns_per_s"]),
            (&json!("acme/chat"), &json!([3]), &json!(50.0))
        );
        assert_eq!(
            (&app["turn_p99_us"], &app["queue_p99_us"], &app["failed"]),
            (&json!(30), &Value::Null, &json!(5))
        );
        assert_eq!(told["tenants"][0]["tenant"], "acme");
    }
}
