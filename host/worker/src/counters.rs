//! What a worker counts. Names are an API.

tidegate_telemetry::counters! {
    /// Turns run.
    TURNS = "tidegate_worker_turns_total";
    /// Turns whose callback failed or broke a limit.
    TURNS_FAILED = "tidegate_worker_turns_failed_total";
    /// Turns that ended in a trap or an overrun.
    FAULTS = "tidegate_worker_turn_faults_total";
    /// Instances started anew after a fault.
    RESTARTS = "tidegate_worker_instance_restarts_total";
    /// Starts after a fault that failed.
    RESTARTS_FAILED = "tidegate_worker_instance_restarts_failed_total";
    /// Starts after a fault that wait, since the slot keeps failing.
    RESTARTS_DELAYED = "tidegate_worker_instance_restarts_delayed_total";
    /// Slots that were suspended since they kept failing.
    SUSPENSIONS = "tidegate_worker_slots_suspended_total";
    /// Suspended slots that another version has taken over.
    RESUMPTIONS = "tidegate_worker_slots_resumed_total";
    /// Slots that fell asleep, since nobody needed them.
    SLEEPS = "tidegate_worker_slots_slept_total";
    /// Slots that fell asleep before their time, since others waited for a place in the pool of instances.
    SLEEPS_EARLY = "tidegate_worker_slots_slept_early_total";
    /// Slots that woke up and had to wait for a place in the pool of instances.
    PLACES_WAITED = "tidegate_worker_slots_waited_for_place_total";
    /// Slots that woke up, since something came for them.
    WAKES = "tidegate_worker_slots_woken_total";
    /// Times that a slot could not sleep although nobody needed it: `save` failed, or there was no room for its state.
    SLEEPS_FAILED = "tidegate_worker_slot_sleeps_failed_total";
    /// Slots that woke up without what they had known: `restore` failed.
    RESTORES_FAILED = "tidegate_worker_slot_restores_failed_total";
    /// Slots that another version has taken over.
    SWITCHES = "tidegate_worker_slot_switches_total";
    /// Slots that kept their version because state could not be handed over.
    SWITCHES_FAILED = "tidegate_worker_slot_switches_failed_total";
    /// Commands that instances asked for around a switch, beside the turns of their slot, and that broke a rule there.
    HELD_COMMANDS_DROPPED = "tidegate_worker_held_commands_dropped_total";
    /// Queries that some gateway did not answer in time.
    QUERIES_PARTIAL = "tidegate_worker_queries_partial_total";
    /// Commands for gateways that no link leads to.
    COMMANDS_UNROUTED = "tidegate_worker_commands_unrouted_total";
    /// Times that a slot waited for its commands to be sent.
    QUEUE_WAITS = "tidegate_worker_queue_waits_total";
    /// Lines of plugins' logs, those that were dropped included.
    LOG_LINES = "tidegate_worker_log_lines_total";
    /// Lines of plugins' logs that were dropped on purpose: their app writes more than it may.
    LOG_LINES_DROPPED = "tidegate_worker_log_lines_dropped_total";
}
