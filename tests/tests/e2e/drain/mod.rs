//! Programs that are told to end: what runs comes to its end, and everybody knows at once.

mod cloud;
mod executor;
mod restart;
