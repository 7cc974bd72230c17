//! How tests run a future that must not hang.

use super::common::LIMIT;

/// Runs a future, and fails if that takes longer than the limit.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(LIMIT, future).await })
        .expect("it hangs")
}
