//! A secret in a file that may be replaced at any time.
//!
//! The file is read for each connection: that costs less than the upgrade, and there is no change that
//! could be missed. While it cannot be used, as in the middle of a replacement, the last good secret
//! counts.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use zeroize::Zeroizing;

use crate::events;

/// What a file holds, in the form in which it is needed.
pub(super) struct SecretFile<T> {
    flag: &'static str,
    path: PathBuf,
    parse: Box<Parse<T>>,
    state: Mutex<State<T>>,
}

type Parse<T> = dyn Fn(&[u8]) -> Result<T, String> + Send + Sync;

struct State<T> {
    last: Arc<T>,
    is_usable: bool,
}

impl<T> SecretFile<T> {
    /// Reads the file for the first time. `parse` gets it without the white space around it.
    ///
    /// # Errors
    ///
    /// What is wrong. Names the flag, not the path: paths of users' files stay out of texts.
    pub(super) fn open(
        flag: &'static str,
        path: PathBuf,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let last = Arc::new(parse(&read(flag, &path)?)?);
        Ok(Self {
            flag,
            path,
            parse: Box::new(parse),
            state: Mutex::new(State {
                last,
                is_usable: true,
            }),
        })
    }

    /// What the file holds now.
    pub(super) fn current(&self) -> Arc<T> {
        let found = read(self.flag, &self.path).and_then(|content| (self.parse)(&content));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let was_usable = state.is_usable;
        state.is_usable = found.is_ok();
        match found {
            Ok(secret) => state.last = Arc::new(secret),
            // Once, since anybody can connect.
            Err(problem) if was_usable => events::secret_file_unusable(&problem),
            Err(_) => {}
        }
        Arc::clone(&state.last)
    }
}

fn read(flag: &str, path: &PathBuf) -> Result<Zeroizing<Vec<u8>>, String> {
    let content = Zeroizing::new(
        fs::read(path).map_err(|error| format!("`{flag}` cannot be read: {}", error.kind()))?,
    );
    Ok(Zeroizing::new(content.trim_ascii().to_vec()))
}
