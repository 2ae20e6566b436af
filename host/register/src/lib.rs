//! The register role: who is in the cluster.
