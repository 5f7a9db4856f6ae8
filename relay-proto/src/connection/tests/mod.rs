//! Two connections on a virtual clock, joined by a link that can misbehave.

mod flow;
mod hostile;
mod link;
mod pair;
mod states;
