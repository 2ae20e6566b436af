//! What the runtime counts, on a worker. Names are an API.

tidegate_telemetry::counters! {
    /// Times that an app, or a tenant, went over its share of the processors, and its turns had to wait.
    CPU_THROTTLES = "tidegate_runtime_cpu_throttles_total";
    /// Milliseconds in which apps and tenants were over their shares, added up over all of them.
    CPU_THROTTLED_MS = "tidegate_runtime_cpu_throttled_ms_total";
}
