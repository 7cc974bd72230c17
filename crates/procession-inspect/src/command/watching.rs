//! The command lines of `top`, `progress` and `metrics`.

use crate::dump;
use crate::error::{Error, Result};
use crate::live::only_family;
use crate::progress;
use crate::read::Observer;
use std::path::Path;

/// What a command line asks for.
#[derive(Debug, Default)]
struct Arguments {
    subject: Option<String>,
    once: bool,
    interval: Option<f64>,
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    listen: Option<String>,
}

/// Runs the command, if it is one of these; returns its output and its exit status.
pub(super) fn run(arguments: &[String]) -> Option<Result<(String, i32)>> {
    let command = arguments.first()?.as_str();
    if !matches!(command, "top" | "progress" | "metrics") {
        return None;
    }
    Some(parse(command, &arguments[1..]).and_then(|arguments| execute(command, &arguments)))
}

fn parse(command: &str, words: &[String]) -> Result<Arguments> {
    let usage = |text: String| Err(Error::Usage(text));
    let mut arguments = Arguments::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match (command, word.as_str()) {
            ("progress", "--once") => arguments.once = true,
            ("progress" | "top", "--interval") => {
                let seconds = words.next().and_then(|text| text.parse::<f64>().ok());
                match seconds {
                    Some(seconds) if (0.05..=3600.0).contains(&seconds) => {
                        arguments.interval = Some(seconds);
                    }
                    _ => return usage("--interval needs a number of seconds from 0.05 to 3600".to_owned()),
                }
            }
            ("metrics", "--listen") => match words.next() {
                Some(address) => arguments.listen = Some(address.clone()),
                None => return usage("--listen needs an address, as 127.0.0.1:9464".to_owned()),
            },
            (_, option) if option.starts_with('-') && option != "-" => {
                return usage(format!("`{command}` has no option {option}"));
            }
            (_, word) if arguments.subject.is_some() => {
                return usage(format!("one process is enough: what is {word}?"));
            }
            (_, word) => arguments.subject = Some(word.to_owned()),
        }
    }
    Ok(arguments)
}

fn execute(command: &str, arguments: &Arguments) -> Result<(String, i32)> {
    match command {
        "progress" => {
            let options = progress::Options {
                once: arguments.once,
                interval: arguments.interval,
            };
            progress::run(observer(arguments, options.once)?, &options)
        }
        #[cfg(feature = "top")]
        "top" => {
            let pid = arguments.subject.as_deref().map(pid).transpose()?;
            crate::top::run(pid, arguments.interval).map(|status| (String::new(), status))
        }
        #[cfg(feature = "metrics")]
        "metrics" => {
            let pid = arguments.subject.as_deref().map(pid).transpose()?;
            match &arguments.listen {
                Some(address) => crate::metrics::listen(pid, address).map(|status| (String::new(), status)),
                None => crate::metrics::text(pid).map(|text| (text, 0)),
            }
        }
        other => Err(Error::Usage(format!("this build has no command {other}"))),
    }
}

fn pid(word: &str) -> Result<u32> {
    word.parse()
        .map_err(|_| Error::Usage(format!("{word} is no pid")))
}

/// The family that is meant. A dump can be looked at, but not watched.
fn observer(arguments: &Arguments, file_will_do: bool) -> Result<Observer> {
    match arguments.subject.as_deref() {
        None => only_family(),
        Some(word) if word.parse::<u32>().is_err() && file_will_do && Path::new(word).exists() => {
            dump::open(Path::new(word))
        }
        Some(word) => Observer::attach(pid(word)?),
    }
}
