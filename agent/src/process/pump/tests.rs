//! When output becomes an event, on a paused clock: time moves only when nobody has anything to do.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::watch;

use super::super::group::ProcessGroup;
use super::super::stdin::Stdin;
use super::super::{Facts, Retention};
use super::*;

/// A process that does nothing, whose output the test writes.
struct Rig {
    process: Arc<Process>,
    changed: watch::Receiver<()>,
    output: std::fs::File,
    begin: Instant,
}

fn rig() -> Rig {
    rig_with(Stdin::absent(), None)
}

#[expect(clippy::zombie_processes, reason = "the group waits for it")]
fn rig_with(stdin: Stdin, input: Option<StdinWriter>) -> Rig {
    let mut command = std::process::Command::new("sleep");
    let child = command.arg("600").process_group(0).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let (group, exit) = ProcessGroup::new(pid, pidfd).unwrap();
    let process = Arc::new(Process::new(
        "p".to_owned(),
        Facts::default(),
        group,
        stdin,
        None,
        &Retention {
            bytes: 0,
            spill: None,
        },
    ));
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    let outputs = vec![(Stream::Stdout, read)];
    let attachment = Arc::new(Attachment::default());
    let pump = Pump::new(Arc::clone(&process), attachment, exit, outputs, input).unwrap();
    tokio::spawn(pump.run());
    Rig {
        changed: process.changed.subscribe(),
        process,
        output: write.into(),
        begin: Instant::now(),
    }
}

impl Rig {
    fn write(&mut self, text: &str) {
        self.output.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the next event and returns when it came, in milliseconds.
    async fn event(&mut self) -> u128 {
        self.changed.changed().await.unwrap();
        self.begin.elapsed().as_millis()
    }

    fn chunks(&self) -> Vec<Bytes> {
        let read = self.process.log(|log| log.read(0, None));
        read.finish()
            .unwrap()
            .chunks
            .into_iter()
            .map(|chunk| chunk.chunk)
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn output_after_a_pause_goes_at_once_and_what_follows_two_milliseconds_later() {
    let mut rig = rig();
    rig.write("a");
    assert_eq!(rig.event().await, 0);
    rig.write("b");
    assert_eq!(rig.event().await, 2);
    tokio::time::sleep(Duration::from_millis(10)).await;
    rig.write("c");
    assert_eq!(rig.event().await, 12);
    assert_eq!(rig.chunks(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn output_after_input_does_not_wait_for_more() {
    let (mut program, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map(|(read, write)| (std::fs::File::from(read), write))
        .unwrap();
    let (stdin, writer) = Stdin::open(input, false);
    let mut rig = rig_with(stdin, Some(writer));
    for id in 0..3 {
        let question = Bytes::from_static(b"?");
        let stdin = &rig.process.stdin;
        stdin.write(question, format!("{id}")).await.unwrap();
        // Its turn is when everybody else waits.
        while io::Read::read(&mut program, &mut [0]).is_err() {
            tokio::task::yield_now().await;
        }
        rig.write("!");
        assert_eq!(rig.event().await, 0);
    }
    rig.write("more");
    assert_eq!(rig.event().await, 2);
}

#[tokio::test(start_paused = true)]
async fn single_bytes_of_one_moment_make_two_events() {
    let mut rig = rig();
    rig.write("first");
    rig.event().await;
    for _ in 0..3000 {
        rig.write("x");
        // Lets the pump read it.
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.event().await, 2);
    assert_eq!(rig.chunks(), ["first".to_owned(), "x".repeat(3000)]);
}

#[tokio::test(start_paused = true)]
async fn full_chunk_does_not_wait() {
    let mut rig = rig();
    rig.write("first");
    rig.event().await;
    // As much as the pipe holds, which is as much as a chunk holds.
    rig.write(&"x".repeat(MAX_CHUNK_BYTES));
    assert_eq!(rig.event().await, 0);
    assert_eq!(rig.chunks()[1].len(), MAX_CHUNK_BYTES);
}
