//! Writes a tiny random model whose greedy answers are text and do not end by themselves: `tiny_model PATH`.

use std::path::Path;

use testkit::{TinyOptions, tiny_model};

fn main() {
    let path = std::env::args().nth(1).expect("usage: tiny_model PATH");
    let mut options = TinyOptions::new("llama");
    (options.endless, options.context) = (true, 4096);
    tiny_model(&options).write(Path::new(&path));
}
