//! What the HTTP API counts. Names are an API.

tidegate_telemetry::counters! {
    /// Connections accepted.
    CONNECTIONS = "tidegate_admin_connections_accepted_total";
    /// Requests.
    REQUESTS = "tidegate_admin_requests_total";
    /// Requests without a token that is known.
    UNAUTHORIZED = "tidegate_admin_requests_unauthorized_total";
    /// Requests that were not done, whatever the reason.
    REFUSED = "tidegate_admin_requests_refused_total";
    /// Requests whose idempotency key had an answer already.
    REPEATED = "tidegate_admin_requests_repeated_total";
    /// Deployments and rollbacks that began.
    DEPLOYMENTS = "tidegate_admin_deployments_total";
}
