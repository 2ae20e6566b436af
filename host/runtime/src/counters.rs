//! What the runtime counts, on a worker. Names are an API.

tidegate_telemetry::counters! {
    /// Times that an app went over its share of the processors, and its turns had to wait.
    CPU_THROTTLES = "tidegate_runtime_cpu_throttles_total";
    /// Milliseconds in which apps were over their share, added up over all apps.
    CPU_THROTTLED_MS = "tidegate_runtime_cpu_throttled_ms_total";
}
