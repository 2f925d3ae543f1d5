//! The client against small servers that say exactly what a test wants them to, over TCP and a Unix socket.

mod ask;
mod stream;
mod support;
