//! Characters that could change what a terminal shows: names come from the program, and a dump from another user.
//!
//! The model contains names as they are. Screens and errors show these characters as escapes (`\u{202e}`), and JSON
//! contains them as escapes of JSON.
//!
//! # References
//!  - [Unicode Technical Report 36](https://www.unicode.org/reports/tr36/), "Bidirectional Text Spoofing"

use std::borrow::Cow;

/// Whether a character moves the cursor, changes the terminal, or changes the direction of text.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with an escape in place of each such character, also of line breaks.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// JSON with an escape in place of each such character. Outside of strings, where no escape may stand, JSON has none of
/// them but line breaks.
pub(crate) fn visible_json(json: String) -> String {
    // The first bytes of all of them in UTF-8; serde_json has escaped the others.
    if !json.bytes().any(|byte| matches!(byte, 0x7f | 0xc2 | 0xd8 | 0xe2)) {
        return json;
    }
    let hidden = |c: char| is_hidden(c) && c != '\n';
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if hidden(c) {
            // All of them have four digits at most.
            out += &format!("\\u{:04x}", c as u32);
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters of our own, and others of the same width in their place.
const OURS: [(&str, &str); 8] = [
    ("→", "->"),
    ("├ ", "|-"),
    ("└ ", "`-"),
    ("│", "|"),
    ("≥ ", ">="),
    ("µ", "u"),
    ("…", "~"),
    ("⚠", "!"),
];

/// The text as a terminal without other characters than those of ASCII shows it: others in the place of ours, and escapes in
/// the place of those in names. `unicode`: the terminal has others.
pub(crate) fn plain(text: String, unicode: bool) -> String {
    if unicode || text.is_ascii() {
        return text;
    }
    let mut text = text;
    for (ours, plain) in OURS {
        text = text.replace(ours, plain);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_has_only_ascii_gets_other_characters() {
        assert_eq!(plain("├ ü → 5 µs".to_owned(), false), "|-\\u{fc} -> 5 us");
        assert_eq!(plain("├ ü".to_owned(), true), "├ ü");
    }

    const TRAPS: &str = "a\u{202e}b\u{2066}\u{200f}\u{61c}\u{2028}\x1b[2J\r\n\t\u{7f}\u{9b}ü漢";

    #[test]
    fn what_could_change_the_terminal_is_escaped_and_other_text_is_not() {
        assert_eq!(
            visible(TRAPS),
            "a\\u{202e}b\\u{2066}\\u{200f}\\u{61c}\\u{2028}\\u{1b}[2J\\r\\n\\t\\u{7f}\\u{9b}ü漢"
        );
        assert!(matches!(visible("worker-ü 漢"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_contains_the_characters_as_escapes() {
        let json = visible_json(serde_json::to_string_pretty(&[TRAPS]).expect("JSON"));
        assert!(!json.contains(|c| is_hidden(c) && c != '\n'), "{json:?}");
        let back: Vec<String> = serde_json::from_str(&json).expect("JSON");
        assert_eq!(back, [TRAPS]);
    }
}
