//! The command `procession`: see [`procession_inspect::command`].

use std::io::Write;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let outcome = procession_inspect::command::run(&arguments);
    // A reader that has closed its end, as `head` does, wants no more.
    let _ = std::io::stdout().write_all(outcome.output.as_bytes());
    let _ = std::io::stderr().write_all(outcome.errors.as_bytes());
    std::process::ExitCode::from(u8::try_from(outcome.status).unwrap_or(2))
}
