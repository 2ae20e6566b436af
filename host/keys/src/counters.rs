//! What a worker counts of its apps' keys. Names are an API.

tidegate_telemetry::counters! {
    /// Questions that plugins asked of their buckets.
    READS = "tidegate_keys_reads_total";
    /// Questions that were answered from memory.
    READS_CACHED = "tidegate_keys_reads_cached_total";
    /// Changes that plugins made in their buckets.
    CHANGES = "tidegate_keys_changes_total";
    /// Changes that were refused: the app's buckets are full, or the value is no number.
    CHANGES_REFUSED = "tidegate_keys_changes_refused_total";
    /// Questions and changes that failed, since the file of keys did.
    FAILED = "tidegate_keys_failures_total";
    /// Times that changes were written to the disk, many at once.
    COMMITS = "tidegate_keys_commits_total";
    /// Apps whose keys were given up, since they are gone.
    SPACES_GIVEN_UP = "tidegate_keys_spaces_given_up_total";
}
