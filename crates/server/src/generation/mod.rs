//! From what a client asks to the events of an answer, the same for every protocol.
//!
//! A protocol turns its request into an [`Ask`] and the events of the [`Answer`] into its own objects; nothing between the two
//! knows which protocol it is.

mod answer;
pub(crate) mod ask;
mod choice;
mod form;
mod prepare;
mod pump;
mod resume;
mod start;
mod thinking;

pub(crate) use answer::{Answer, Render, data, respond};
pub(crate) use ask::{Ask, Form, Prompt, Sampling, ToolChoice, Tools};
pub(crate) use choice::{Call, Choice, Collected, Usage};
pub(crate) use prepare::Common;
pub(crate) use pump::{Event, Finish, STOPPING, Token, What};
pub(crate) use resume::resume;
pub(crate) use start::{Active, Cancel, Start, start};
