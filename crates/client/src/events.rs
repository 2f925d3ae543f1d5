//! An answer as it comes.

use std::io::Read;
use std::sync::Arc;

use serde_json::Value;
use ureq::BodyReader;

use crate::address::Address;
use crate::parser::{MOST, Parser, TooLong};
use crate::request::{ErrorObject, reading_failed};
use crate::{Error, Stop};

/// Bytes read at a time.
const PIECE: usize = 8 << 10;

/// The events of a streamed answer, each the JSON of its data. They end with the answer (`[DONE]`, or the end of what the server
/// sends), with an error, or with the request's [`Stop`]; dropping them closes the connection, which cancels the answer.
pub struct Events {
    address: Arc<Address>,
    stop: Stop,
    /// `None` when nothing more is read.
    body: Option<BodyReader<'static>>,
    parser: Parser,
    /// Whether the server has sent all that it will.
    is_at_end: bool,
    /// What reading ended with, told after the events before it.
    error: Option<Error>,
}

impl Events {
    pub(crate) fn new(address: Arc<Address>, stop: Stop, body: BodyReader<'static>) -> Events {
        let parser = Parser::default();
        Events { address, stop, body: Some(body), parser, is_at_end: false, error: None }
    }

    /// Reads a piece, or finds that there is none.
    fn read(&mut self, body: &mut BodyReader<'static>) -> Result<bool, Error> {
        let mut piece = [0; PIECE];
        match body.read(&mut piece) {
            Ok(0) => {
                self.parser.finish();
                self.is_at_end = true;
                Ok(false)
            }
            Ok(count) => self.parser.push(&piece[..count]).map(|()| true).map_err(|TooLong| {
                self.not_understood(format!("an event is longer than {} MiB", MOST >> 20))
            }),
            Err(error) => Err(reading_failed(&self.address, error.into())),
        }
    }

    /// What the data of an event means; `None` for the sign of the end.
    fn understand(&self, data: &[u8]) -> Option<Result<Value, Error>> {
        if data == b"[DONE]" {
            return None;
        }
        Some(match serde_json::from_slice::<Value>(data) {
            Ok(event) => match ErrorObject::of(&event) {
                Some(ErrorObject { code, message }) => Err(Error::Failed { code, message }),
                None => Ok(event),
            },
            Err(_) if self.is_at_end => Err(Error::CutOff { address: self.address.shown.clone() }),
            Err(error) => Err(self.not_understood(format!("an event is not JSON: {error}"))),
        })
    }

    fn not_understood(&self, reason: String) -> Error {
        Error::NotUnderstood { address: self.address.shown.clone(), reason }
    }
}

impl Iterator for Events {
    type Item = Result<Value, Error>;

    fn next(&mut self) -> Option<Result<Value, Error>> {
        loop {
            if self.stop.is_set() {
                self.parser = Parser::default();
                (self.body, self.error) = (None, None);
                return None;
            }
            if let Some(data) = self.parser.next() {
                let event = self.understand(&data);
                if !matches!(event, Some(Ok(_))) {
                    self.parser = Parser::default();
                    (self.body, self.error) = (None, None);
                }
                return event;
            }
            let Some(mut body) = self.body.take() else { return self.error.take().map(Err) };
            match self.read(&mut body) {
                Ok(true) => self.body = Some(body),
                Ok(false) => {}
                Err(error) => self.error = Some(error),
            }
        }
    }
}
