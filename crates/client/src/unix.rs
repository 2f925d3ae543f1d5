//! HTTP over a Unix socket: what ureq needs to know of it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};
use ureq::{Agent, Error};

/// An agent whose every request goes to this socket.
pub(crate) fn agent(config: Config, socket: &Path) -> Agent {
    Agent::with_parts(config, ToSocket(socket.to_owned()), Nowhere)
}

/// Connects to the socket, whatever the address.
#[derive(Debug)]
struct ToSocket(PathBuf);

impl Connector for ToSocket {
    type Out = SocketTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _chained: Option<()>,
    ) -> Result<Option<SocketTransport>, Error> {
        let socket = Arc::new(Socket(UnixStream::connect(&self.0)?));
        let handle: Weak<dyn ShutdownHandle> = Arc::downgrade(&(socket.clone() as Arc<dyn ShutdownHandle>));
        (details.register_shutdown)(handle)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(SocketTransport { socket, buffers }))
    }
}

/// A socket has no address that a name could resolve to, but one is wanted.
#[derive(Debug)]
struct Nowhere;

impl Resolver for Nowhere {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Ok(addresses)
    }
}

#[derive(Debug)]
struct Socket(UnixStream);

impl ShutdownHandle for Socket {
    fn shutdown(&self) {
        // One that is closed already needs no closing.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// A connection to the socket.
#[derive(Debug)]
struct SocketTransport {
    socket: Arc<Socket>,
    buffers: LazyBuffers,
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        let mut stream = &self.socket.0;
        stream.set_write_timeout(duration(timeout))?;
        stream.write_all(&self.buffers.output()[..amount]).map_err(|error| named(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let mut stream = &self.socket.0;
        stream.set_read_timeout(duration(timeout))?;
        let count = loop {
            match stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|error| named(error, timeout))?,
            }
        };
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        // Asked before a connection is used again, which none is.
        false
    }
}

fn duration(timeout: NextTimeout) -> Option<Duration> {
    timeout.not_zero().map(|duration| *duration)
}

/// What a read or write that took too long failed with.
fn named(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}
