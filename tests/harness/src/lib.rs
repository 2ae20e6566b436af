//! Tidegate tests: harness.
