//! What bridges count. Names are an API.

tidegate_telemetry::counters! {
    /// Connections accepted, to registers and gateways of bridges.
    CONNECTIONS = "tidegate_bridge_connections_accepted_total";
    /// Commands of GatewayClient that were given to a gateway.
    COMMANDS = "tidegate_bridge_commands_total";
    /// Questions of GatewayClient that were answered.
    QUESTIONS = "tidegate_bridge_questions_answered_total";
    /// Commands that were refused, here or by a gateway; nobody else learns of it.
    REFUSED = "tidegate_bridge_commands_refused_total";
    /// Commands for clients of a gateway that is not there any more.
    NOBODY = "tidegate_bridge_commands_for_nobody_total";
    /// Connections that were ended for what came on them: a wrong secret, or no such protocol.
    ENDED = "tidegate_bridge_connections_refused_total";
    /// Calls that a gateway did not answer.
    MISSING = "tidegate_bridge_calls_unanswered_total";
}
