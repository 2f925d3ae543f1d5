//! What clients may ask of the server before it answers them: sizes, numbers and times.

use std::time::Duration;

/// The limits of one server. The defaults suit a phone that a few programs talk to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; further ones are told to come back.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of all bodies that are being read at once.
    pub bodies: usize,
    /// How deep objects and lists of a body lie in each other.
    pub depth: usize,
    /// Answers in the making at once, each choice of a request counted.
    pub answers: usize,
    /// For the head of a request, and for a connection on which nothing is asked.
    pub head_time: Duration,
    /// For the body of a request.
    pub body_time: Duration,
    /// For a client to take the next byte of an answer.
    pub write_time: Duration,
    /// For answers in the making when the server is told to stop.
    pub stop_time: Duration,
    /// Finished responses that are kept in memory for those who ask for them again.
    pub responses: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            head: 32 << 10,
            body: 16 << 20,
            bodies: 64 << 20,
            depth: 64,
            answers: 512,
            head_time: Duration::from_secs(20),
            body_time: Duration::from_secs(60),
            write_time: Duration::from_secs(60),
            stop_time: Duration::from_secs(5),
            responses: 256,
        }
    }
}
