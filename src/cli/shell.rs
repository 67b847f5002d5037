//! Completions and the manual page, made from the same description that arguments are parsed by.

use clap::CommandFactory as _;

use super::{Cli, error::CliError, output::Reply};

/// Completions for `shell`.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Reply, CliError> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cofferdam", &mut out);
    written(out)
}

/// The manual page (roff), the commands below it included.
pub(crate) fn man() -> Result<Reply, CliError> {
    let mut out = Vec::new();
    let mut command = Cli::command();
    command.build();
    render(&command, &mut out).map_err(CliError::io("the manual page"))?;
    written(out)
}

fn render(command: &clap::Command, out: &mut Vec<u8>) -> std::io::Result<()> {
    clap_mangen::Man::new(command.clone()).render(out)?;
    command.get_subcommands().filter(|c| c.get_name() != "help").try_for_each(|c| render(c, out))
}

fn written(bytes: Vec<u8>) -> Result<Reply, CliError> {
    let text =
        String::from_utf8(bytes).map_err(|_| CliError::failed("the text is not UTF-8: report this"))?;
    let json = serde_json::Value::String(text.clone());
    Ok(Reply::new(text.trim_end(), json))
}
