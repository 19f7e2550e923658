//! Bounds on what is declared to the control plane, with their units and why they are what they are.

/// Bytes of one file. A mesh of 10,000 services with 10 endpoints each is about 10 MB of YAML.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// Documents of one file.
pub const FILE_DOCUMENTS_MAX: usize = 200_000;

/// Values of one file, copies made by aliases included: what keeps a few lines of anchors from
/// filling the memory. A value takes about 100 bytes.
pub const FILE_NODES_MAX: usize = 4_000_000;

/// Lists and mappings within each other. The deepest field of the accepted kinds is 12 deep.
pub const DEPTH_MAX: usize = 64;

/// Diagnostics that are kept of one set of files; the rest is counted.
pub const DIAGNOSTICS_MAX: usize = 500;

/// Bytes of one compiled regular expression, as the `regex` crate counts them.
pub const REGEX_BYTES_MAX: usize = 1 << 20;
