//! Composition: configuration to roles to run to drain.
