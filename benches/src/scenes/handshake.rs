//! From nothing to the first answer: bundle, websocket, Noise handshake, session, one request.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::promise::Promise;
use crate::series::Series;
use crate::subject::Subject;
use crate::system::System;

pub(crate) async fn run(system: Arc<System>) -> Result<Vec<Series>> {
    let mut times = Vec::new();
    for round in 0..ROUNDS + 3 {
        let start = Instant::now();
        let client = system.client().await?;
        client.status().await?;
        // The first ones find their way.
        if round >= 3 {
            times.push(start.elapsed());
        }
        client.close().await;
    }
    Ok(vec![
        Series::times("connect to first answer", times)
            .promised(&[Promise::AtMostTimes(0.5, Subject::Reference)]),
    ])
}

const ROUNDS: u32 = 30;
