/// Bounds on configuration text. They hold before any document is understood, so that no
/// document can raise them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YamlLimits {
    /// Size of one file, in bytes.
    pub max_file_bytes: usize,
    /// Size of all files together, in bytes.
    pub max_total_bytes: usize,
    /// Nesting of mappings and sequences in one document, aliases followed.
    pub max_depth: usize,
    /// Values in one file, keys counted too and aliases written out.
    pub max_nodes: usize,
    /// Text in the values of one file, in bytes, aliases written out.
    pub max_expanded_bytes: usize,
}

impl Default for YamlLimits {
    fn default() -> Self {
        Self {
            max_file_bytes: 16 * 1024 * 1024,
            max_total_bytes: 64 * 1024 * 1024,
            max_depth: 64,
            max_nodes: 2_000_000,
            max_expanded_bytes: 32 * 1024 * 1024,
        }
    }
}
