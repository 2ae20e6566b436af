//! What a pusher counts. Names are an API.

tidegate_telemetry::counters! {
    /// Commands that were to be pushed.
    COMMANDS = "tidegate_push_commands_total";
    /// Queries that were asked.
    QUERIES = "tidegate_push_queries_total";
    /// Commands that a gateway refused.
    REFUSED = "tidegate_push_refused_total";
    /// Calls that some gateway did not answer.
    PARTIAL = "tidegate_push_partial_calls_total";
    /// Calls for which a gateway was waited for in vain as long as a call waits.
    WAITED_OUT = "tidegate_push_waited_out_calls_total";
    /// Commands and queries whose lane was lost before they were answered.
    LOST = "tidegate_push_lost_total";
    /// Lanes opened.
    LANES = "tidegate_push_lanes_opened_total";
}
