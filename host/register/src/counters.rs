//! What a register counts. Names are an API.

tidegate_telemetry::counters! {
    /// Links of nodes and operators that were admitted.
    LINKS = "tidegate_register_links_total";
    /// Links that were refused: a wrong announcement, none in time, or too many links.
    REFUSED = "tidegate_register_links_refused_total";
    /// Announcements of nodes.
    ANNOUNCEMENTS = "tidegate_register_announcements_total";
}
