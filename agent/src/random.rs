//! Randomness of the operating system.

use rand::{SeedableRng as _, rngs::StdRng};
use relay_proto::{HandshakeError, Identity};

/// Returns 32 random bytes.
pub(crate) fn seed() -> [u8; 32] {
    use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

    let mut seed = [0; 32];
    #[expect(
        clippy::expect_used,
        reason = "a process without a random source must not go on: its keys would be guessable"
    )]
    SystemRandom::new()
        .fill(&mut seed)
        .expect("the system has a random source");
    seed
}

/// Makes the key pair of this process.
pub(crate) fn identity() -> Result<Identity, HandshakeError> {
    Identity::generate(&mut StdRng::from_seed(seed()))
}
