//! Two connections on a virtual clock, joined by a link that can misbehave.

mod compat;
mod flow;
mod hostile;
mod lies;
mod link;
mod lossy;
mod order;
mod pair;
mod paths;
mod reliable;
mod states;
mod world;
