//! What a gateway counts. Names are an API.

tidegate_telemetry::counters! {
    /// Client connections accepted.
    ACCEPTED = "tidegate_gateway_connections_accepted_total";
    /// Client connections refused: the app or the process holds as many as it may, or too many came to the app in a second.
    REFUSED = "tidegate_gateway_connections_refused_total";
    /// Requests on a shared port that no app has a route for.
    UNROUTED = "tidegate_gateway_requests_unrouted_total";
    /// Requests for an app that is suspended or has no version.
    TURNED_AWAY = "tidegate_gateway_requests_turned_away_total";
    /// Connections to a shared port that were ended because others came and they had not said what they want.
    CROWDED_OUT = "tidegate_gateway_connections_crowded_out_total";
    /// Client connections ended.
    CLOSED = "tidegate_gateway_connections_closed_total";
    /// Clients that waited for a slot until their time was up.
    WAITED_OUT = "tidegate_gateway_clients_waited_out_total";
    /// Events sent to slots.
    EVENTS = "tidegate_gateway_events_total";
    /// Events whose turn failed.
    EVENTS_FAILED = "tidegate_gateway_events_failed_total";
    /// Events lost with their lane, or because no slot came up in time.
    EVENTS_LOST = "tidegate_gateway_events_lost_total";
    /// Events that a leaving slot did not read and another one got.
    EVENTS_MOVED = "tidegate_gateway_events_moved_total";
    /// Times that a client's socket was not read for lack of credit.
    PAUSES = "tidegate_gateway_client_pauses_total";
    /// Times that a client's socket was not read because it, or all clients of its app, spoke too fast.
    THROTTLED = "tidegate_gateway_client_throttles_total";
    /// Times that what was for a client was held back because it, or all clients of its app, got too much.
    OUT_HELD = "tidegate_gateway_client_out_holds_total";
    /// Times that an app's connections were not taken because too many came in a second.
    ACCEPTS_THROTTLED = "tidegate_gateway_accept_throttles_total";
    /// Messages dropped before a slow client.
    DROPPED = "tidegate_gateway_messages_dropped_total";
    /// Clients cut because they read too slowly.
    SLOW = "tidegate_gateway_clients_slow_total";
    /// Commands that came from outside of the plugins.
    COMMANDS_FROM_OUTSIDE = "tidegate_gateway_outside_commands_total";
    /// Commands that the hub refused.
    COMMANDS_REFUSED = "tidegate_gateway_commands_refused_total";
    /// Lanes ended by a broken frame.
    LANES_BROKEN = "tidegate_gateway_lanes_broken_total";
}
