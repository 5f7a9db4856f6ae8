//! What is measured: one file per scene.

pub mod fairness;
mod sandbox;
mod start;

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;

use crate::series::Series;
use crate::system::System;

/// Something that is done with a running system, and timed.
#[derive(Debug)]
pub struct Scene {
    /// As it is typed.
    pub name: &'static str,
    /// Does it once.
    pub run: for<'a> fn(&'a System) -> Run<'a>,
}

/// A scene that is being done.
pub type Run<'a> = Pin<Box<dyn Future<Output = Result<Vec<Series>>> + 'a>>;

/// All scenes, in the order of the report.
pub const SCENES: &[Scene] = &[
    Scene {
        name: "fairness",
        run: |system| Box::pin(fairness::run(system)),
    },
    Scene {
        name: "sandbox",
        run: |system| Box::pin(sandbox::run(system)),
    },
    Scene {
        name: "start",
        run: |system| Box::pin(start::run(system)),
    },
];
