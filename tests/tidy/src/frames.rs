//! The frames of the wire protocol: each with its own number and its fields written beside it.

/// What is wrong with the registry of frames: `enum Kind` of `host/wire/src/frame.rs`.
fn broken_frames(text: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once("pub enum Kind {\n") else {
        return vec!["there is no `enum Kind`".to_owned()];
    };
    let body = rest.split("\n}").next().unwrap_or_default();
    let (mut broken, mut numbers, mut documented) = (Vec::new(), Vec::new(), false);
    for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("//") {
            documented = line.starts_with("/// ");
            continue;
        }
        let Some((name, number)) = line.trim_end_matches(',').split_once(" = ") else {
            broken.push(format!("{line}: write its number"));
            continue;
        };
        if !documented {
            broken.push(format!("{name}: write what its fields hold"));
        }
        if numbers.contains(&number) {
            broken.push(format!("{name}: {number} is taken"));
        }
        numbers.push(number);
        documented = false;
    }
    if numbers.is_empty() {
        broken.push("there are no frames".to_owned());
    }
    broken
}

mod tests {
    use super::*;
    use crate::repo::{refuse, text};

    #[test]
    fn every_frame_has_its_own_number_and_says_what_its_fields_hold() {
        refuse("host/wire/src/frame.rs:", &broken_frames(&text("host/wire/src/frame.rs")));
    }

    #[test]
    fn the_file_of_frames_opens_with_the_layout_of_their_bytes() {
        let header =
            text("host/wire/src/frame.rs").lines().take_while(|line| line.starts_with("//!")).count();
        assert!(header > 5, "the layout is drawn at the top");
    }

    #[test]
    fn frames_without_number_words_or_with_a_taken_number_are_found() {
        let text = "pub enum Kind {\n    /// One.\n    A = 0x01,\n    B = 0x02,\n    /// Three.\n    C = 0x01,\n    D,\n}\n";
        let expected = ["B: write what its fields hold", "C: 0x01 is taken", "D,: write its number"];
        assert_eq!(broken_frames(text), expected);
        assert_eq!(broken_frames("pub enum Other {}").len(), 1);
        assert_eq!(broken_frames("pub enum Kind {\n    // None.\n}\n").len(), 1);
    }
}
