//! Tidegate tests: e2e.
