//! `procession serve`: the page, live.

use super::Outcome;
use super::arguments::Arguments;
use crate::error::Result;

#[cfg(feature = "serve")]
pub(super) fn serve(arguments: &Arguments) -> Result<Outcome> {
    use crate::error::Error;
    use crate::live::Stop;
    use crate::serve::Server;
    use std::io::Write;

    let server = Server::bind(arguments.options.port.unwrap_or(0))?;
    let stop = Stop::new()?;
    let mut out = std::io::stdout();
    let told = writeln!(
        out,
        "{}\nOpen this address in a browser on this machine. It is as secret as a password. Ctrl-C ends the server.",
        server.url()
    );
    told.and_then(|()| out.flush())
        .map_err(|e| Error::file("standard output", e))?;
    server.run(&|| stop.signal().is_some())?;
    Ok(Outcome::printed(String::new()))
}

#[cfg(not(feature = "serve"))]
pub(super) fn serve(_: &Arguments) -> Result<Outcome> {
    use crate::error::Error;
    let text = "this build has no `serve` (the feature `serve`); the wheel has it".to_owned();
    Err(Error::Cannot(text))
}
