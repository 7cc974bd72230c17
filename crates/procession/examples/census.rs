//! Counts the words of Rust's standard library with a pool, and kills a worker on the way: `make demo-rust`
//!
//! One process counts all files first. Then a pool counts them in parts. When a quarter of the parts is counted, a worker is
//! killed with SIGKILL. Its part is counted by another worker, and a new worker takes its place. The counts of both must be
//! equal, or the program fails.
//!
//! ```text
//! cargo run --release --example census                      the sources that are found on this machine
//! cargo run --release --example census -- --sources FOLDER  the .rs files of a folder
//! cargo run --release --example census -- --limit 100       only 100 files, of all sizes
//! cargo run --release --example census -- --workers 8       default: one for each CPU that this process may use
//! ```
#![allow(clippy::print_stdout)]

use procession::Pool;
use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

type Counts = HashMap<String, u64>;

/// The registry of a busy machine has a hundred thousand files. These are enough for a demonstration.
const MOST_FILES: usize = 3000;
/// All workers have work until the end if there are many parts.
const PARTS: usize = 100;

/// Counts the words of one part of the files: runs in a worker, and in this process for comparison.
fn count(files: Vec<PathBuf>) -> Counts {
    let mut counts = Counts::new();
    for file in files {
        let bytes = std::fs::read(file).unwrap_or_default();
        count_words(&String::from_utf8_lossy(&bytes), &mut counts);
    }
    counts
}

/// Counts the words in a text: `HashMap` and `hash_map` both have the words "hash" and "map".
fn count_words(text: &str, counts: &mut Counts) {
    let (mut word, mut after_small) = (String::new(), false);
    for c in text.chars().chain([' ']) {
        if !c.is_alphabetic() || (after_small && c.is_uppercase()) {
            if let Some(count) = counts.get_mut(&word) {
                *count += 1;
            } else if !word.is_empty() {
                counts.insert(word.clone(), 1);
            }
            word.clear();
        }
        if c.is_alphabetic() {
            word.extend(c.to_lowercase());
        }
        after_small = c.is_lowercase();
    }
}

/// What a worker returns: its pid, and the counts.
fn count_in_worker(files: Vec<PathBuf>) -> (u32, Counts) {
    (std::process::id(), count(files))
}

fn main() -> Result<(), Box<dyn Error>> {
    procession::init();
    let options = Options::of_the_command_line()?;
    let sources = Sources::find(&options)?;
    println!("{}", sources.described());

    let began = Instant::now();
    let expected = count(sources.files.clone());
    let alone = began.elapsed();

    let mut pool = Pool::builder().name("counters");
    if let Some(workers) = options.workers {
        pool = pool.workers(workers);
    }
    let pool = pool.build()?;
    let census = together(&pool, sources.parts())?;

    let speed = |time: Duration| {
        format!(
            "{:6.2} s {:7.1} MB/s",
            time.as_secs_f64(),
            sources.megabytes() / time.as_secs_f64()
        )
    };
    println!("  {:<14}{}", "one process", speed(alone));
    println!(
        "  {:<14}{}",
        format!("{} workers", pool.workers()),
        speed(census.time)
    );
    println!();
    for (pid, parts) in &census.parts {
        let fate = if Some(*pid) == census.killed {
            ", then killed with SIGKILL"
        } else {
            ""
        };
        println!("  worker {pid} has counted {parts} parts{fate}");
    }
    println!();
    if census.counts != expected {
        return Err("the counts of the pool are NOT the counts of one process".into());
    }
    println!(
        "the same counts: {} words, {} different ones; no part is missing, and none was counted twice",
        expected.values().sum::<u64>(),
        expected.len()
    );
    let mut frequent: Vec<(&String, &u64)> = expected.iter().collect();
    frequent.sort_by_key(|(word, count)| (std::cmp::Reverse(*count), *word));
    let frequent: Vec<String> = frequent
        .iter()
        .take(8)
        .map(|(word, count)| format!("{word} {count}"))
        .collect();
    println!("most frequent: {}", frequent.join(", "));
    Ok(())
}

/// The counts of the pool, and how they came about.
struct Census {
    counts: Counts,
    time: Duration,
    /// The workers in the order of their first part, each with the number of its parts.
    parts: Vec<(u32, u32)>,
    killed: Option<u32>,
}

/// Counts all parts with the pool. Kills a worker when a quarter of them is counted.
fn together(pool: &Pool, parts: Vec<Vec<PathBuf>>) -> Result<Census, Box<dyn Error>> {
    let all = parts.len();
    let mut census = Census {
        counts: Counts::new(),
        time: Duration::ZERO,
        parts: Vec::new(),
        killed: None,
    };
    let began = Instant::now();
    // A part whose worker dies is counted once more by another worker. Without retries, it would be an error here.
    let results = pool.tasks().retries(1).map_unordered(count_in_worker, parts)?;
    for (done, result) in (1..).zip(results) {
        let (pid, counts) = result?;
        match census.parts.iter_mut().find(|(known, _)| *known == pid) {
            Some((_, parts)) => *parts += 1,
            None => census.parts.push((pid, 1)),
        }
        for (word, count) in counts {
            *census.counts.entry(word).or_default() += count;
        }
        if done >= all.div_ceil(4) && census.killed.is_none() {
            kill(pid)?;
            census.killed = Some(pid);
        }
        show_progress(done, all);
    }
    census.time = began.elapsed();
    Ok(census)
}

fn kill(pid: u32) -> Result<(), Box<dyn Error>> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.ok_or("no pid")?, rustix::process::Signal::KILL)?;
    Ok(())
}

/// Shows the progress in one line of a terminal. The line goes when all is done.
fn show_progress(done: usize, all: usize) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let bar = "#".repeat(40 * done / all);
        let line = if done < all {
            format!("\r  [{bar:<40}] {done} of {all} parts")
        } else {
            "\r\x1b[K".to_owned()
        };
        let _ = terminal.write_all(line.as_bytes());
    }
}

/// The files whose words are counted.
struct Sources {
    /// What they are, and for a replacement why.
    what: String,
    found: usize,
    files: Vec<PathBuf>,
    sizes: Vec<usize>,
}

impl Sources {
    /// Finds the sources of Rust's standard library, or what is there instead.
    fn find(options: &Options) -> Result<Sources, Box<dyn Error>> {
        let candidates = match &options.sources {
            Some(folder) => vec![(format!("the .rs files in {}", folder.display()), vec![folder.clone()], "rs")],
            None => vec![
                ("Rust's standard library".to_owned(), standard_library(), "rs"),
                (
                    "the crates that cargo has downloaded (for the standard library: rustup component add rust-src)".to_owned(),
                    registry(),
                    "rs",
                ),
                ("Python's standard library, as there are no Rust sources here".to_owned(), python(), "py"),
            ],
        };
        for (what, folders, ending) in candidates {
            let mut files = Vec::new();
            for folder in folders {
                collect(&folder, OsStr::new(ending), &mut files);
            }
            if !files.is_empty() {
                return Ok(Sources::chosen(what, files, options.limit));
            }
        }
        Err("there are no sources to count".into())
    }

    /// Takes `limit` files, of all sizes. Reads them once, so that both counts find them in the memory of the system.
    fn chosen(what: String, mut files: Vec<PathBuf>, limit: usize) -> Sources {
        let found = files.len();
        files.sort();
        let step = files.len().div_ceil(limit.max(1));
        let files: Vec<PathBuf> = files.into_iter().step_by(step).collect();
        let sizes = files
            .iter()
            .map(|file| std::fs::read(file).map_or(0, |bytes| bytes.len()))
            .collect();
        Sources {
            what,
            found,
            files,
            sizes,
        }
    }

    /// Divides the files into parts of about the same size.
    fn parts(&self) -> Vec<Vec<PathBuf>> {
        let most = self.sizes.iter().sum::<usize>() / PARTS;
        let mut parts = vec![Vec::new()];
        let mut size = 0;
        for (file, bytes) in self.files.iter().zip(&self.sizes) {
            if size > most {
                parts.push(Vec::new());
                size = 0;
            }
            size += bytes;
            parts
                .last_mut()
                .into_iter()
                .for_each(|part| part.push(file.clone()));
        }
        parts
    }

    fn megabytes(&self) -> f64 {
        self.sizes.iter().sum::<usize>() as f64 / 1e6
    }

    fn described(&self) -> String {
        let of = if self.found > self.files.len() {
            format!(" of {}", self.found)
        } else {
            String::new()
        };
        format!(
            "{}{of} files, {:.1} MB: {}",
            self.files.len(),
            self.megabytes(),
            self.what
        )
    }
}

/// Returns what a command prints, if it can be run.
fn printed(command: &str, arguments: &[&str]) -> Option<PathBuf> {
    let output = Command::new(command).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().into())
}

fn standard_library() -> Vec<PathBuf> {
    let sysroot = printed("rustc", &["--print", "sysroot"]);
    sysroot
        .into_iter()
        .map(|folder| folder.join("lib/rustlib/src"))
        .collect()
}

fn registry() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    home.into_iter().map(|home| home.join("registry/src")).collect()
}

fn python() -> Vec<PathBuf> {
    let folder = "import sysconfig; print(sysconfig.get_path('stdlib'))";
    printed("python3", &["-c", folder]).into_iter().collect()
}

/// Adds the files with this ending in a folder and its subfolders. A folder that cannot be read counts as empty.
fn collect(folder: &Path, ending: &OsStr, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&path, ending, files),
            Ok(kind) if kind.is_file() && path.extension() == Some(ending) => files.push(path),
            _ => {}
        }
    }
}

struct Options {
    sources: Option<PathBuf>,
    workers: Option<u32>,
    limit: usize,
}

impl Options {
    fn of_the_command_line() -> Result<Options, Box<dyn Error>> {
        let mut options = Options {
            sources: None,
            workers: None,
            limit: MOST_FILES,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--sources" => options.sources = Some(value.into()),
                "--workers" => options.workers = Some(value.parse()?),
                "--limit" => options.limit = value.parse()?,
                _ => {
                    return Err(format!(
                        "there is no option {name}; there are --sources, --workers and --limit"
                    )
                    .into());
                }
            }
        }
        Ok(options)
    }
}
