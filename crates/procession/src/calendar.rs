//! Dates, times and durations, as Python's module `datetime` has them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, SystemTime};

/// A day of the Gregorian calendar: Python's `datetime.date`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Date {
    /// 1 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

/// A time of the day: Python's `datetime.time`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Time {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999 999.
    pub microsecond: u32,
    /// Whether this is the second of two equal times of the day on which the clock is set back.
    pub fold: bool,
    /// The time zone; None if Python's object is naive.
    pub zone: Option<Box<TimeZone>>,
}

/// A date with a time: Python's `datetime.datetime`.
///
/// ```
/// use procession::python::DateTime;
/// use std::time::{Duration, SystemTime};
///
/// let time = DateTime::from(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400));
/// assert_eq!(time.to_string(), "1970-01-02T00:00:00+00:00");
/// assert_eq!(time.system_time(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DateTime {
    /// The date.
    pub date: Date,
    /// The time of that day, with the time zone.
    pub time: Time,
}

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimeZone {
    /// A fixed distance from UTC: Python's `datetime.timezone`.
    Fixed {
        /// How far local time is ahead of UTC.
        offset: TimeDelta,
        /// The name, if the zone was made with one.
        name: Option<String>,
    },
    /// A zone of the database of time zones, such as `Europe/Berlin`: Python's `zoneinfo.ZoneInfo`.
    Named(String),
}

/// The difference between two times: Python's `datetime.timedelta`. Only `days` may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeDelta {
    /// -999 999 999 to 999 999 999.
    pub days: i32,
    /// 0 to 86 399.
    pub seconds: u32,
    /// 0 to 999 999.
    pub microseconds: u32,
}

const SECONDS_OF_A_DAY: i64 = 86_400;

impl TimeZone {
    /// UTC.
    pub const UTC: TimeZone = TimeZone::Fixed {
        offset: TimeDelta {
            days: 0,
            seconds: 0,
            microseconds: 0,
        },
        name: None,
    };
}

impl Date {
    /// Returns the number of days since 1970-01-01.
    ///
    /// The algorithm is `days_from_civil` of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
    #[must_use]
    pub fn days_since_epoch(self) -> i64 {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year - era * 400;
        let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }

    /// Returns the date of a number of days since 1970-01-01. None before the year 1 and after the year 9999.
    #[must_use]
    pub fn from_days_since_epoch(days: i64) -> Option<Date> {
        let days = days.checked_add(719_468)?;
        let era = days.div_euclid(146_097);
        let day_of_era = days - era * 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let year = u16::try_from(year)
            .ok()
            .filter(|year| (1..=9999).contains(year))?;
        Some(Date {
            year,
            month: month as u8,
            day: (day_of_year - (153 * shifted + 2) / 5 + 1) as u8,
        })
    }
}

impl TimeDelta {
    /// Makes a difference of a number of microseconds. None beyond 999 999 999 days.
    #[must_use]
    pub fn from_microseconds(total: i128) -> Option<TimeDelta> {
        let a_day = i128::from(SECONDS_OF_A_DAY) * 1_000_000;
        let days = i32::try_from(total.div_euclid(a_day)).ok()?;
        let rest = total.rem_euclid(a_day);
        (days.unsigned_abs() <= 999_999_999).then_some(TimeDelta {
            days,
            seconds: (rest / 1_000_000) as u32,
            microseconds: (rest % 1_000_000) as u32,
        })
    }

    /// Returns the whole difference in microseconds.
    #[must_use]
    pub fn total_microseconds(self) -> i128 {
        let seconds = i128::from(self.days) * i128::from(SECONDS_OF_A_DAY) + i128::from(self.seconds);
        seconds * 1_000_000 + i128::from(self.microseconds)
    }
}

impl DateTime {
    /// Returns the instant. None if the time has no zone, or a named one, whose rules this crate does not know.
    #[must_use]
    pub fn system_time(&self) -> Option<SystemTime> {
        let Some(TimeZone::Fixed { offset, .. }) = self.time.zone.as_deref() else {
            return None;
        };
        let time = &self.time;
        let seconds = self.date.days_since_epoch() * SECONDS_OF_A_DAY
            + i64::from(time.hour) * 3600
            + i64::from(time.minute) * 60
            + i64::from(time.second);
        let total =
            i128::from(seconds) * 1_000_000 + i128::from(time.microsecond) - offset.total_microseconds();
        let distance = Duration::from_micros(u64::try_from(total.unsigned_abs()).ok()?);
        if total < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        }
    }
}

impl From<SystemTime> for DateTime {
    /// Makes a time in UTC, rounded down to a microsecond. Beyond the years 1 to 9999 it is the first or the last time of these.
    fn from(instant: SystemTime) -> DateTime {
        let total = match instant.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => after.as_micros() as i128,
            Err(before) => -(before.duration().as_nanos().div_ceil(1000) as i128),
        };
        let least = i128::from(
            Date {
                year: 1,
                month: 1,
                day: 1,
            }
            .days_since_epoch(),
        ) * 86_400_000_000;
        let most = i128::from(
            Date {
                year: 9999,
                month: 12,
                day: 31,
            }
            .days_since_epoch()
                + 1,
        ) * 86_400_000_000
            - 1;
        let total = total.clamp(least, most);
        let (days, rest) = (
            total.div_euclid(86_400_000_000),
            total.rem_euclid(86_400_000_000) as u64,
        );
        let seconds = rest / 1_000_000;
        DateTime {
            date: Date::from_days_since_epoch(days as i64).unwrap_or(Date {
                year: 1970,
                month: 1,
                day: 1,
            }),
            time: Time {
                hour: (seconds / 3600) as u8,
                minute: (seconds / 60 % 60) as u8,
                second: (seconds % 60) as u8,
                microsecond: (rest % 1_000_000) as u32,
                fold: false,
                zone: Some(Box::new(TimeZone::UTC)),
            },
        }
    }
}

impl TryFrom<TimeDelta> for Duration {
    type Error = crate::big_int::TooBig;

    /// Converts the difference. It is an error if it is negative.
    fn try_from(delta: TimeDelta) -> Result<Duration, Self::Error> {
        let total = u128::try_from(delta.total_microseconds()).map_err(|_| crate::big_int::TooBig)?;
        let seconds = u64::try_from(total / 1_000_000).map_err(|_| crate::big_int::TooBig)?;
        Ok(Duration::new(seconds, (total % 1_000_000) as u32 * 1000))
    }
}

impl TryFrom<Duration> for TimeDelta {
    type Error = crate::big_int::TooBig;

    /// Converts the duration, rounded down to a microsecond. It is an error beyond 999 999 999 days.
    fn try_from(duration: Duration) -> Result<TimeDelta, Self::Error> {
        let total = i128::try_from(duration.as_micros()).ok();
        total
            .and_then(TimeDelta::from_microseconds)
            .ok_or(crate::big_int::TooBig)
    }
}

impl fmt::Display for Date {
    /// Writes the date as ISO 8601 has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl fmt::Display for Time {
    /// Writes the time as ISO 8601 has it. A named zone stands in brackets behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second)?;
        if self.microsecond != 0 {
            write!(f, ".{:06}", self.microsecond)?;
        }
        match self.zone.as_deref() {
            None => Ok(()),
            Some(TimeZone::Named(name)) => write!(f, "[{name}]"),
            Some(TimeZone::Fixed { offset, .. }) => {
                let total = offset.total_microseconds();
                let sign = if total < 0 { '-' } else { '+' };
                let minutes = total.unsigned_abs() / 60_000_000;
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        }
    }
}

impl fmt::Display for DateTime {
    /// Writes the time as ISO 8601 and RFC 3339 have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T{}", self.date, self.time)
    }
}

// --- as Python pickles them ---

impl Date {
    pub(crate) fn packed(self) -> [u8; 4] {
        let [high, low] = self.year.to_be_bytes();
        [high, low, self.month, self.day]
    }

    pub(crate) fn unpacked(bytes: &[u8]) -> Option<Date> {
        let [high, low, month, day] = *bytes else {
            return None;
        };
        Some(Date {
            year: u16::from_be_bytes([high, low]),
            month,
            day,
        })
        .filter(|date| {
            (1..=9999).contains(&date.year) && (1..=12).contains(&month) && (1..=31).contains(&day)
        })
    }
}

impl Time {
    /// Returns the six bytes; `fold` is kept by the first byte of a time, or by the month of a datetime.
    pub(crate) fn packed(&self) -> [u8; 6] {
        let [_, high, middle, low] = self.microsecond.to_be_bytes();
        [self.hour, self.minute, self.second, high, middle, low]
    }

    pub(crate) fn unpacked(bytes: &[u8], fold: bool) -> Option<Time> {
        let [hour, minute, second, high, middle, low] = *bytes else {
            return None;
        };
        let time = Time {
            hour,
            minute,
            second,
            microsecond: u32::from_be_bytes([0, high, middle, low]),
            fold,
            zone: None,
        };
        (hour < 24 && minute < 60 && second < 60 && time.microsecond < 1_000_000).then_some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_has_one_number() {
        let mut last = None;
        for days in -719_162..=2_932_896 {
            let date = Date::from_days_since_epoch(days).unwrap();
            assert_eq!(date.days_since_epoch(), days);
            assert!(last.is_none_or(|last| last < date));
            last = Some(date);
        }
        assert_eq!(last.map(|date| date.to_string()), Some("9999-12-31".into()));
        assert_eq!(Date::from_days_since_epoch(-719_163), None);
        assert_eq!(Date::from_days_since_epoch(2_932_897), None);
        assert_eq!(Date::from_days_since_epoch(i64::MAX), None);
    }

    #[test]
    fn a_system_time_comes_back() {
        for micros in [0u64, 1, 1_700_000_000_123_456, 253_402_300_799_999_999] {
            let after = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
            assert_eq!(DateTime::from(after).system_time(), Some(after));
            if let Some(before) = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_micros(micros / 5)) {
                assert_eq!(DateTime::from(before).system_time(), Some(before));
            }
        }
        let delta = TimeDelta::try_from(Duration::from_millis(86_401_500)).unwrap();
        assert_eq!((delta.days, delta.seconds, delta.microseconds), (1, 1, 500_000));
        assert_eq!(TimeDelta::from_microseconds(-1).unwrap().total_microseconds(), -1);
        for days in [i64::from(i32::MIN), -1_000_000_000, 1_000_000_000, i64::MAX] {
            assert_eq!(
                TimeDelta::from_microseconds(i128::from(days) * 86_400_000_000),
                None
            );
        }
        assert!(Duration::try_from(TimeDelta::from_microseconds(-1).unwrap()).is_err());
    }
}
