//! Tidegate tests: tidy.
