//! Stop texts. LangFast is not known to take them, so they are applied here, even if one arrives in
//! several pieces.

/// Passes an answer's text on until a stop text appears.
#[derive(Clone, Debug)]
pub struct StopFilter {
    stops: Vec<String>,
    /// The end of the text so far that may be the beginning of a stop text.
    held_back: String,
    /// The stop text that was found.
    stopped: Option<String>,
}

impl StopFilter {
    /// Creates a filter for these texts; empty ones are ignored.
    pub fn new(stops: &[String]) -> StopFilter {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        StopFilter { stops, held_back: String::new(), stopped: None }
    }

    /// Takes further text and returns the text that can be passed on.
    pub fn push(&mut self, text: String) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        if self.stops.is_empty() {
            return text;
        }
        let mut text = std::mem::take(&mut self.held_back) + &text;
        let found = |stop: &String| Some((text.find(stop.as_str())?, stop.clone()));
        if let Some((at, stop)) = self.stops.iter().filter_map(found).min() {
            self.stopped = Some(stop);
            text.truncate(at);
            return text;
        }
        let held_back = self.stops.iter().map(|stop| overlap(&text, stop)).max().unwrap_or(0);
        self.held_back = text.split_off(text.len() - held_back);
        text
    }

    /// Ends the text, and returns what was held back, since it was no stop text.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held_back)
    }

    /// Returns the stop text that was found.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }
}

/// Returns the length of the longest end of `text` that is a beginning of `stop`, but not all of
/// it.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    let lengths = (1..=longest).rev();
    lengths.into_iter().find(|length| stop.as_bytes().starts_with(tail(text, *length))).unwrap_or(0)
}

fn tail(text: &str, length: usize) -> &[u8] {
    &text.as_bytes()[text.len() - length..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn play(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut filter = StopFilter::new(&stops);
        let mut passed: Vec<String> =
            pieces.iter().map(|piece| filter.push(piece.to_string())).collect();
        passed.push(filter.finish());
        (passed, filter.stopped().is_some())
    }

    #[test]
    fn text_is_passed_on_at_once_where_no_stop_text_can_begin() {
        assert_eq!(play(&["END"], &["ab", "cd"]).0, ["ab", "cd", ""]);
        assert_eq!(play(&[], &["ab", "cd"]).0, ["ab", "cd", ""]);
    }

    #[test]
    fn a_stop_text_in_pieces_ends_the_text_before_it() {
        assert_eq!(
            play(&["END"], &["abE", "N", "Dcd", "ef"]),
            (["ab", "", "", "", ""].map(String::from).to_vec(), true)
        );
    }

    #[test]
    fn what_only_began_like_a_stop_text_is_passed_on() {
        assert_eq!(play(&["END"], &["aEN", "x"]).0.concat(), "aENx");
        assert_eq!(play(&["END"], &["aEN"]).0, ["a", "EN"]);
    }

    #[test]
    fn the_earliest_of_several_stop_texts_counts_and_is_told() {
        assert_eq!(play(&["d", "bc"], &["abcd"]).0.concat(), "a");
        let mut filter = StopFilter::new(&["d", "bc"].map(str::to_owned));
        assert_eq!(filter.stopped(), None);
        filter.push("abcd".to_owned());
        assert_eq!(filter.stopped(), Some("bc"));
    }

    #[test]
    fn characters_are_never_cut() {
        assert_eq!(play(&["é!"], &["aé", "?"]).0, ["a", "é?", ""]);
        assert_eq!(play(&["\u{e9}"], &["\u{e8}"]).0.concat(), "\u{e8}");
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in "[ab]{0,20}", stop in "[ab]{1,4}", cuts: Vec<prop::sample::Index>) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let passed = play(&[&stop], &pieces).0.concat();
            prop_assert_eq!(passed, text.split(&stop).next().unwrap());
        }
    }
}
