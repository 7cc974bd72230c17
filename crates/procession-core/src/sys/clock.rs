//! The monotonic clock, and deadlines on it.

use core::time::Duration;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`. All processes of a machine read the same clock.
#[must_use]
pub fn now() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    (t.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(t.tv_nsec as u64)
}

/// The same clock at its last tick, at most some milliseconds ago. The call takes a quarter of the time of [`now`].
#[must_use]
pub fn about_now() -> u64 {
    let t = clock_gettime(ClockId::MonotonicCoarse);
    (t.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(t.tv_nsec as u64)
}

/// A point in time on `CLOCK_MONOTONIC`, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// The deadline that never comes.
    pub const NEVER: Deadline = Deadline(u64::MAX);
    /// The deadline that has passed already: an operation with it does not wait.
    pub const PAST: Deadline = Deadline(0);

    /// `span` from now. A span that the clock cannot represent becomes [`Deadline::NEVER`].
    #[must_use]
    pub fn after(span: Duration) -> Self {
        match u64::try_from(span.as_nanos()) {
            Ok(0) => Deadline::PAST,
            Ok(ns) => Deadline(now().saturating_add(ns)),
            Err(_) => Deadline::NEVER,
        }
    }

    /// `seconds` from now. A negative number or NaN becomes [`Deadline::PAST`].
    #[must_use]
    pub fn after_seconds(seconds: f64) -> Self {
        if seconds > 0.0 {
            Duration::try_from_secs_f64(seconds).map_or(Deadline::NEVER, Deadline::after)
        } else {
            Deadline::PAST
        }
    }

    /// Returns whether the deadline has passed.
    #[must_use]
    pub fn expired(self) -> bool {
        self != Deadline::NEVER && (self == Deadline::PAST || now() >= self.0)
    }

    /// Time left until the deadline; None for [`Deadline::NEVER`].
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        (self != Deadline::NEVER).then(|| Duration::from_nanos(self.0.saturating_sub(now())))
    }

    /// The deadline at a time of the clock, in nanoseconds.
    #[must_use]
    pub fn at(time: u64) -> Self {
        Deadline(time)
    }

    /// The time of the deadline, in nanoseconds of the clock; `u64::MAX` for [`Deadline::NEVER`].
    #[must_use]
    pub fn time(self) -> u64 {
        self.0
    }

    /// The deadline as absolute time for a system call; None for [`Deadline::NEVER`].
    #[must_use]
    pub fn timespec(self) -> Option<Timespec> {
        (self != Deadline::NEVER).then_some(Timespec {
            tv_sec: (self.0 / 1_000_000_000) as _,
            tv_nsec: (self.0 % 1_000_000_000) as _,
        })
    }

    /// The earlier of the two deadlines.
    #[must_use]
    pub fn sooner(self, other: Deadline) -> Deadline {
        self.min(other)
    }
}
