//! Tidegate tests: artifacts.
