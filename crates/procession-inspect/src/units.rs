//! Durations and sizes in words.

/// A duration in the unit that reads best: `3.1 s`, `12 ms`, `2 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.000_001 => "0 s".to_owned(),
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 0.1 => format!("{:.0} ms", s * 1e3),
        s if s < 99.95 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.0} min {:.0} s", (s / 60.0).floor(), s % 60.0),
        s if s < 86_400.0 => format!("{:.0} h {:.0} min", (s / 3600.0).floor(), s % 3600.0 / 60.0),
        s => format!("{:.0} d {:.0} h", (s / 86_400.0).floor(), s % 86_400.0 / 3600.0),
    }
}

/// A number of bytes with a unit: `4.2 M`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 10.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A number with its noun: `1 task`, `2 tasks`.
pub(crate) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A place in the program without the folders of its file: `train.py:88 main`.
pub(crate) fn short_place(place: &str) -> &str {
    let file = place.split_once(':').map_or(place, |(file, _)| file);
    let folders = file.rfind('/').map_or(0, |slash| slash + 1);
    &place[folders..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_reads_best() {
        let texts: Vec<String> = [0.0, 0.000_02, 0.012, 3.12, 150.0, 7500.0, 100_000.0]
            .into_iter()
            .map(duration)
            .collect();
        assert_eq!(
            texts,
            [
                "0 s",
                "20 µs",
                "12 ms",
                "3.1 s",
                "2 min 30 s",
                "2 h 5 min",
                "1 d 4 h"
            ]
        );
    }

    #[test]
    fn a_place_is_shown_without_its_folders() {
        assert_eq!(
            short_place("/a/b/train.py:88 main.<locals>.x/y"),
            "train.py:88 main.<locals>.x/y"
        );
        assert_eq!(short_place("train.py:8"), "train.py:8");
        assert_eq!(short_place(""), "");
    }

    #[test]
    fn bytes_have_a_unit() {
        let texts: Vec<String> = [7, 4096, 4_400_000, 3 << 40].into_iter().map(bytes).collect();
        assert_eq!(texts, ["7 B", "4.0 K", "4.2 M", "3.0 T"]);
    }
}
