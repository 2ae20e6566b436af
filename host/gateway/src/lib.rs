//! The gateway role: listeners, protocols, hub, router, slow-client policy.
