//! The numbers that bound capability discovery.

/// Most roots in one `capabilityRoots/discoverV1`.
pub(crate) const ROOTS: usize = 128;
/// Roots searched at once.
pub(crate) const ROOTS_AT_ONCE: usize = 8;
/// Levels below a root that are searched.
pub(crate) const DEPTH: usize = 6;
/// Directories entered below a root.
pub(crate) const DIRECTORIES: usize = 2000;
/// Names examined below a root.
pub(crate) const ENTRIES: usize = 20_000;
/// Largest file that is sent.
pub(crate) const FILE_BYTES: u64 = 1024 * 1024;
/// Contents of all files of one root.
pub(crate) const ROOT_BYTES: usize = 16 * 1024 * 1024;
/// Contents of all files in one answer, as they are escaped in JSON. Leaves room for paths and
/// envelope in a message of 64 MiB.
pub(crate) const ANSWER_BYTES: usize = 48 * 1024 * 1024;
/// Longest name of a skill, in characters.
pub(crate) const SKILL_NAME_CHARS: usize = 64;
/// Installed plugins that are described.
pub(crate) const PLUGINS: usize = 256;
/// Nesting of the YAML in skill files.
pub(crate) const YAML_DEPTH: usize = 16;
/// Longest YAML that is read; descriptions are far shorter.
pub(crate) const YAML_BYTES: usize = 64 * 1024;
/// Nodes of one document, copies made by aliases included.
pub(crate) const YAML_NODES: usize = 4096;
