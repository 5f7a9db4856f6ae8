//! Who is measured.

/// Whose work is measured, or what it is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `exec-server`.
    Ours,
    /// Codex 0.169, behind our registry and rendezvous and with our harness.
    Reference,
    /// OpenSSH on loopback over one connection that stays open: what people use otherwise.
    Ssh,
    /// The machine itself, with nothing of this project in between: what could be had at best.
    Machine,
}

impl Subject {
    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Reference => "Codex 0.169",
            Self::Ssh => "ssh",
            Self::Machine => "the machine",
        }
    }
}
