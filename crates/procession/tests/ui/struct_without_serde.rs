//! A struct without serde's traits, as an argument.
struct Job {
    size: u32,
}

fn main() {
    procession::init();
    let _ = procession::Process::spawn(|job: Job| job.size, Job { size: 1 });
}
