//! The ways out of a network namespace: listeners on its loopback that the executor accepts on.
//!
//! The sandbox's init makes them, as soon as it is in the new namespace and before it gives up its
//! rights, and sends them out over a socket that it was given for that. A listener stays in the
//! namespace that it was made in, whoever has it, so nothing has to run inside to carry bytes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::sys;

/// The ways that a sandbox was asked for.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) ports: Vec<u16>,
    pub(super) out: Option<OwnedFd>,
}

impl Ways {
    /// Makes the namespace's loopback usable, and the listeners. Neither stays with this process.
    pub(super) fn open(self) -> io::Result<()> {
        sys::raise_loopback()?;
        let Some(out) = self.out else {
            return Ok(());
        };
        let listen = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port));
        let listeners = self
            .ports
            .iter()
            .map(listen)
            .collect::<io::Result<Vec<_>>>()?;
        for listeners in listeners.chunks(AT_ONCE) {
            let descriptors: Vec<_> = listeners.iter().map(TcpListener::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut attached = SendAncillaryBuffer::new(&mut space);
            if !attached.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            sendmsg(
                &out,
                &[IoSlice::new(&[0])],
                &mut attached,
                SendFlags::NOSIGNAL,
            )?;
        }
        Ok(())
    }
}

/// Takes listeners from a sandbox whose program runs, so that they are on their way.
pub(crate) fn receive(ways: &UnixStream, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(count);
    while listeners.len() < count {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut attached = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(
            ways,
            &mut [IoSliceMut::new(&mut byte)],
            &mut attached,
            flags,
        )?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for message in attached.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                listeners.extend(descriptors.map(TcpListener::from));
            }
        }
    }
    Ok(listeners)
}

/// Descriptors in one message.
const AT_ONCE: usize = 16;
