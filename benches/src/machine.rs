//! What the machine does with nothing of this project in between.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Moves so many bytes over a socket of loopback, each record sealed by one thread and opened by
/// another, and nothing else.
pub(crate) fn sealed_loopback(bytes: u64) -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let start = Instant::now();
    let sender = thread::spawn(move || send(TcpStream::connect(address)?, bytes));
    let (socket, _) = listener.accept()?;
    let received = receive(socket)?;
    let time = start.elapsed();
    sender.join().ok().context("the sender has panicked")??;
    if received < bytes {
        bail!("only {received} bytes came through");
    }
    Ok(time)
}

fn send(mut socket: TcpStream, bytes: u64) -> Result<()> {
    let key = key()?;
    let mut record = Vec::with_capacity(SEALED);
    for number in 0..bytes.div_ceil(PLAIN as u64) {
        record.clear();
        record.resize(PLAIN, 0);
        key.seal_in_place_append_tag(nonce(number), Aad::empty(), &mut record)
            .ok()
            .context("sealing failed")?;
        socket.write_all(&record)?;
    }
    Ok(())
}

fn receive(mut socket: TcpStream) -> Result<u64> {
    let key = key()?;
    let mut record = vec![0; SEALED];
    let mut received = 0;
    for number in 0.. {
        match socket.read_exact(&mut record) {
            Ok(()) => {}
            Err(_) => break,
        }
        let plain = key.open_in_place(nonce(number), Aad::empty(), &mut record);
        received += plain.ok().context("opening failed")?.len() as u64;
    }
    Ok(received)
}

fn key() -> Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).ok();
    Ok(LessSafeKey::new(key.context("no key")?))
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

const PLAIN: usize = 61_440;
const SEALED: usize = PLAIN + 16;
