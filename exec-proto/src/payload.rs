//! Bytes that stand beside the JSON of a message instead of in it, as base64.
//!
//! The types of the protocol say `#[serde(with = "exec_proto::base64")]` and nothing else. Whether
//! such a member becomes base64 or a number that refers to bytes beside the text is decided by the
//! scope in which it is serialized:
//!
//! ```text
//! no scope            base64 in the text, as always
//! scope of a draft    large ones are collected, and a number takes their place
//! scope of payloads   a number in the text stands for one of them
//! ```
//!
//! Serde has no way to hand a context through the types in between, so a scope belongs to the
//! thread. It lasts for one call of the JSON library, which never gives the thread away.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

/// Shorter members stay in the text: they are not worth a place of their own.
pub(crate) const MIN_BYTES: usize = 256;

thread_local! {
    static SCOPE: RefCell<Scope> = const { RefCell::new(Scope::None) };
}

/// What a member with bytes finds around it.
enum Scope {
    None,
    Draft(Rc<RefCell<Collected>>),
    Payloads(Payloads),
}

/// The payloads of a message that arrived, in the order of their numbers.
#[derive(Clone, Default)]
pub(crate) struct Payloads(Option<Arc<[Bytes]>>);

/// Text that is being written, and the bytes that numbers in it stand for.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) text: Vec<u8>,
    pub(crate) payloads: Vec<Placed>,
}

/// Bytes, and where in the text the number that stands for them begins.
#[derive(Clone)]
pub(crate) struct Placed {
    pub(crate) at: usize,
    pub(crate) bytes: Bytes,
}

impl Payloads {
    pub(crate) fn new(payloads: Vec<Bytes>) -> Self {
        Self((!payloads.is_empty()).then(|| payloads.into()))
    }

    /// What there is in the scope of this thread.
    pub(crate) fn current() -> Self {
        SCOPE.with_borrow(|scope| match scope {
            Scope::Payloads(payloads) => payloads.clone(),
            Scope::None | Scope::Draft(_) => Self::default(),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Lets numbers stand for these payloads while `read` runs.
    pub(crate) fn within<T>(&self, read: impl FnOnce() -> T) -> T {
        if self.is_empty() {
            // What is around stays: values inside of values are read on their own.
            return read();
        }
        let _scope = Entered::new(Scope::Payloads(self.clone()));
        read()
    }
}

/// The payload of that number in the scope of this thread.
pub(crate) fn find(number: u64) -> Option<Bytes> {
    SCOPE.with_borrow(|scope| match scope {
        Scope::Payloads(Payloads(Some(payloads))) => {
            payloads.get(usize::try_from(number).ok()?).cloned()
        }
        _ => None,
    })
}

/// Whether numbers stand for payloads in the scope of this thread.
pub(crate) fn are_there() -> bool {
    SCOPE.with_borrow(|scope| matches!(scope, Scope::Payloads(_)))
}

/// Takes bytes that are about to be written, and returns the number to be written for them. `None`
/// if they belong into the text.
pub(crate) fn place(bytes: &Bytes) -> Option<usize> {
    if bytes.len() < MIN_BYTES {
        return None;
    }
    SCOPE.with_borrow(|scope| {
        let Scope::Draft(collected) = scope else {
            return None;
        };
        let mut collected = collected.borrow_mut();
        let number = collected.payloads.len();
        let placed = Placed {
            at: collected.text.len(),
            bytes: bytes.clone(),
        };
        collected.payloads.push(placed);
        Some(number)
    })
}

/// Writes text with `write`, which gets the place for it, and collects payloads meanwhile.
pub(crate) fn collect<E>(
    write: impl FnOnce(&mut dyn io::Write) -> Result<(), E>,
) -> Result<Collected, E> {
    let collected = Rc::new(RefCell::new(Collected::default()));
    let scope = Entered::new(Scope::Draft(Rc::clone(&collected)));
    write(&mut Text(Rc::clone(&collected)))?;
    drop(scope);
    Ok(collected.take())
}

/// The text of a draft, as a place to write to.
struct Text(Rc<RefCell<Collected>>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().text.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A scope, until dropped.
struct Entered {
    outer: Scope,
}

impl Entered {
    fn new(scope: Scope) -> Self {
        Self {
            outer: SCOPE.replace(scope),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        SCOPE.set(std::mem::replace(&mut self.outer, Scope::None));
    }
}
