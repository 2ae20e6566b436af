//! The plugin runtime: engine, pools, limits, host functions, compilation.
