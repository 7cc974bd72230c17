//! Reads all files of a folder in several processes, with back-pressure: `cargo run --release --example crawler -- [FOLDER]`
//!
//! One process walks through the folder and sends the paths through a channel of 16 places. When the readers are slower, it
//! waits, so that a folder with a million files takes no more memory than one with a hundred. When it ends, the readers'
//! iterators end, and then the iterator over the results: a channel is closed when its last sender in any process is gone.
//!
//! Only the walker puts paths into the channel. A reader that did so too could wait for ever for a place that only a reader can
//! make free. Where the readers find new work (the links of a page), let them send it to one process that keeps it in a list.
#![allow(clippy::print_stdout)]

use procession::{Process, PutError, Receiver, Sender, bounded_channel, channel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PLACES: u64 = 16;
const READERS: usize = 2;

/// What a reader finds out about a file.
#[derive(Serialize, Deserialize)]
struct Finding {
    ending: String,
    lines: u64,
    bytes: u64,
}

/// Sends the paths of all files. Returns how many there are, and how often it had to wait for the readers.
fn walk((folder, paths): (PathBuf, Sender<PathBuf>)) -> (u64, u64) {
    let (mut files, mut waits) = (0, 0);
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    files += 1;
                    // `send` alone would do. The attempt before it is there to count.
                    if let Err(PutError::Full) = paths.try_send(&entry.path()) {
                        waits += 1;
                        if paths.send(&entry.path()).is_err() {
                            return (files, waits); // no reader is left
                        }
                    }
                }
                _ => {}
            }
        }
    }
    (files, waits)
}

/// Runs in each reader.
fn read((paths, findings): (Receiver<PathBuf>, Sender<Finding>)) {
    for path in paths.iter().flatten() {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let finding = Finding {
            ending: ending(&path),
            lines: bytes.iter().filter(|byte| **byte == b'\n').count() as u64,
            bytes: bytes.len() as u64,
        };
        if findings.send(&finding).is_err() {
            return;
        }
    }
}

fn ending(path: &Path) -> String {
    path.extension().map_or_else(
        || "no ending".into(),
        |ending| ending.to_string_lossy().into_owned(),
    )
}

fn main() -> procession::Result<()> {
    procession::init();
    let folder = std::env::args_os()
        .nth(1)
        .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let (paths, to_read) = bounded_channel(PLACES)?;
    let (findings, found) = channel()?;
    let walker = Process::builder()
        .name("walker")
        .spawn(walk, (folder.into(), paths))?;
    let readers = (0..READERS)
        .map(|_| Process::spawn(read, (to_read.clone(), findings.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    // Only the children use these ends. With a copy here, the channels would stay open.
    drop((to_read, findings));
    let (mut sums, mut read) = (BTreeMap::<String, (u64, u64, u64)>::new(), 0);
    for finding in found.iter() {
        let finding = finding?;
        let (files, lines, bytes) = sums.entry(finding.ending).or_default();
        (*files, *lines, *bytes) = (*files + 1, *lines + finding.lines, *bytes + finding.bytes);
        read += 1;
    }
    for reader in readers {
        reader.join()?;
    }
    let (sent, waits) = walker.join()?;
    for (ending, (files, lines, bytes)) in sums {
        println!("{files:6} files {lines:9} lines {bytes:11} bytes  {ending}");
    }
    println!("{read} of {sent} files were read; the walker has waited {waits} times for the readers");
    assert_eq!(read, sent);
    Ok(())
}
