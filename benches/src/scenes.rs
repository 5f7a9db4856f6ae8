//! What is measured: one file per scene.

mod direct;
pub mod fairness;
mod files;
mod forwarding;
mod handshake;
mod idle_agents;
mod memory;
mod online;
mod processor;
mod sandbox;
mod start;
mod throughput;
mod transfer;

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;

use crate::series::Series;
use crate::subject::Subject;
use crate::system::on;

/// Something that is done and timed.
#[derive(Debug)]
pub struct Scene {
    /// As it is typed.
    pub name: &'static str,
    /// Who can do it.
    pub subjects: &'static [Subject],
    /// Does it once.
    pub run: fn(Subject) -> Run,
}

/// A scene that is being done.
pub type Run = Pin<Box<dyn Future<Output = Result<Vec<Series>>> + Send>>;

/// All scenes, in the order of the report.
pub const SCENES: &[Scene] = &[
    Scene {
        name: "start",
        subjects: &[
            Subject::Ours,
            Subject::Reference,
            Subject::Ssh,
            Subject::Machine,
        ],
        run: |subject| Box::pin(start::run(subject)),
    },
    Scene {
        name: "direct",
        subjects: EXECUTORS,
        run: |subject| Box::pin(direct::run(subject)),
    },
    Scene {
        name: "throughput",
        subjects: &[
            Subject::Ours,
            Subject::Reference,
            Subject::Ssh,
            Subject::Machine,
        ],
        run: |subject| Box::pin(throughput::run(subject)),
    },
    Scene {
        name: "files",
        subjects: &[Subject::Ours, Subject::Reference, Subject::Ssh],
        run: |subject| Box::pin(files::run(subject)),
    },
    Scene {
        name: "fairness",
        subjects: EXECUTORS,
        run: |subject| Box::pin(on(subject, fairness::run)),
    },
    Scene {
        name: "sandbox",
        subjects: EXECUTORS,
        run: |subject| Box::pin(sandbox::run(subject)),
    },
    Scene {
        name: "handshake",
        subjects: EXECUTORS,
        run: |subject| Box::pin(on(subject, handshake::run)),
    },
    Scene {
        name: "memory",
        subjects: EXECUTORS,
        run: |subject| Box::pin(memory::run(subject)),
    },
    Scene {
        name: "online",
        subjects: EXECUTORS,
        run: |subject| Box::pin(online::run(subject)),
    },
    Scene {
        name: "processor",
        subjects: EXECUTORS,
        run: |subject| Box::pin(on(subject, processor::run)),
    },
    Scene {
        name: "forwarding",
        subjects: &[Subject::Ours],
        run: |_| Box::pin(forwarding::run()),
    },
    Scene {
        name: "idle-agents",
        subjects: &[Subject::Ours],
        run: |_| Box::pin(idle_agents::run()),
    },
    Scene {
        name: "transfer",
        subjects: EXECUTORS,
        run: |subject| Box::pin(on(subject, transfer::run)),
    },
];

const EXECUTORS: &[Subject] = &[Subject::Ours, Subject::Reference];
