//! What a register counts. Names are an API.

tidegate_telemetry::counters! {
    /// Links of nodes and operators that were admitted.
    LINKS = "tidegate_register_links_total";
    /// Links that were refused: a wrong announcement, none in time, or too many links.
    REFUSED = "tidegate_register_links_refused_total";
    /// Announcements of nodes.
    ANNOUNCEMENTS = "tidegate_register_announcements_total";
    /// Questions of operators and workers, each on a lane of its own.
    REQUESTS = "tidegate_register_requests_total";
    /// Those of them that were refused.
    REQUESTS_REFUSED = "tidegate_register_requests_refused_total";
    /// Orders about tenants and apps, refused ones too.
    ORDERS = "tidegate_register_orders_total";
    /// Deployments that were committed.
    COMMITTED = "tidegate_register_deployments_committed_total";
    /// Deployments that were rolled back.
    ROLLED_BACK = "tidegate_register_deployments_rolled_back_total";
    /// Deployments that ended mixed: going back failed on some slots.
    MIXED = "tidegate_register_deployments_mixed_total";
}
