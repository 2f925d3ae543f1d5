//! The command line as a whole. What a command takes stands in that command's own file.

use clap::Parser;
use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Effects};

use crate::commands::Command;

/// Runs language models on this machine: GGUF in, text out.
#[derive(Debug, Parser)]
#[command(name = "pouch", version, styles = STYLES, max_term_width = 100)]
#[command(disable_help_subcommand = true, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Say nothing but the answer: no progress, no figures, no notes
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  pouch run \"Why is the sky blue?\"       answer with the default model, fetched on first use
  pouch chat -m qwen2.5-0.5b             a conversation
  pouch list                             models here, and models known by name

`pouch COMMAND --help` has examples for each command.";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default());
