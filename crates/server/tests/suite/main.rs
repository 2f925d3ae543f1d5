//! The server as its clients meet it, over real sockets, with tiny random models.

mod access;
mod chat;
mod completions;
mod connections;
mod forms;
mod hostile;
mod models;
mod ollama;
mod own;
mod responses;
mod support;
mod thinking;
