//! Stop texts. LangFast is not known to take them, so they are applied here, even if one arrives in
//! several pieces.

/// Passes an answer's text on until a stop text appears.
#[derive(Clone, Debug)]
pub struct StopFilter {
    stops: Vec<Stop>,
    held_back: HeldBack,
    /// The stop text that was found.
    stopped: Option<String>,
}

/// A stop text, and how much of it the text so far ends with. Each byte of a text is looked at once, or
/// little more often: a stop text may be long, and most of it be held back for long.
#[derive(Clone, Debug)]
struct Stop {
    text: String,
    matched: usize,
    /// For each beginning of the stop text, by its length less 1, the length of the longest shorter beginning
    /// that it ends with; as far as any has been matched.
    borders: Vec<usize>,
}

/// The end of the text so far that may be the beginning of a stop text.
#[derive(Clone, Debug, Default)]
struct HeldBack {
    text: String,
    /// The bytes of `text` that have been passed on: to remove them each time would move all others.
    passed: usize,
}

impl StopFilter {
    /// Creates a filter for these texts; empty ones are ignored.
    pub fn new(stops: &[String]) -> StopFilter {
        let stops = stops.iter().filter(|stop| !stop.is_empty());
        let stop = |text: &String| Stop { text: text.clone(), matched: 0, borders: Vec::new() };
        let stops = stops.map(stop).collect();
        StopFilter { stops, held_back: HeldBack::default(), stopped: None }
    }

    /// Takes further text and returns the text that can be passed on.
    pub fn push(&mut self, text: String) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        if self.stops.is_empty() {
            return text;
        }
        let before = self.held_back.len();
        let found = |stop: &mut Stop| {
            let end = before + stop.find(&text)?;
            Some((end - stop.text.len(), stop.text.clone()))
        };
        let found = self.stops.iter_mut().filter_map(found).min();
        if let Some((at, stop)) = found {
            self.stopped = Some(stop);
            let passed = self.held_back.pass(&text, (before + text.len()) - at);
            self.held_back = HeldBack::default();
            return passed;
        }
        let held_back = self.stops.iter().map(|stop| stop.matched).max().unwrap_or(0);
        if before == 0 && held_back == 0 {
            return text;
        }
        self.held_back.pass(&text, held_back)
    }

    /// Ends the text, and returns what was held back, since it was no stop text.
    pub fn finish(&mut self) -> String {
        self.held_back.pass("", 0)
    }

    /// Returns the stop text that was found.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }
}

impl Stop {
    /// Looks at further text, and returns where in it the stop text ends for the first time.
    fn find(&mut self, text: &str) -> Option<usize> {
        let (own, text) = (self.text.as_bytes(), text.as_bytes());
        let mut at = 0;
        while at < text.len() {
            if self.matched == 0 {
                at += text[at..].iter().position(|byte| *byte == own[0])?;
            }
            while self.matched > 0 && own[self.matched] != text[at] {
                self.matched = self.borders[self.matched - 1];
            }
            self.matched += usize::from(own[self.matched] == text[at]);
            at += 1;
            if self.matched == own.len() {
                return Some(at);
            }
            if self.matched > self.borders.len() {
                let border = self.next_border();
                self.borders.push(border);
            }
        }
        None
    }

    /// The entry of `borders` behind those that are there.
    fn next_border(&self) -> usize {
        let (own, at) = (self.text.as_bytes(), self.borders.len());
        let Some(mut border) = self.borders.last().copied() else { return 0 };
        while border > 0 && own[border] != own[at] {
            border = self.borders[border - 1];
        }
        border + usize::from(own[border] == own[at])
    }
}

impl HeldBack {
    fn len(&self) -> usize {
        self.text.len() - self.passed
    }

    /// Adds further text, and returns all but the last `kept` bytes of it.
    fn pass(&mut self, more: &str, kept: usize) -> String {
        self.text.push_str(more);
        let end = self.text.len() - kept;
        let passed = self.text[self.passed..end].to_owned();
        self.passed = end;
        if self.passed >= kept {
            self.text.drain(..end);
            self.passed = 0;
        }
        passed
    }
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

    /// By the square of their length these would take minutes.
    #[test]
    fn a_long_beginning_of_a_long_stop_text_is_read_in_time_by_its_length() {
        let stop = "a".repeat(300_000) + "b";
        let mut filter = StopFilter::new(&["x".to_owned(), stop.clone()]);
        let mut passed = String::new();
        for _ in 0..200_000 {
            passed += &filter.push("aa".to_owned());
        }
        passed += &filter.push("c".to_owned());
        assert_eq!(passed, "a".repeat(400_000) + "c");
        let text = "a".repeat(2_000_000) + "c";
        let mut filter = StopFilter::new(&["a".repeat(3_000_000)]);
        assert_eq!(filter.push(text.clone()), text);
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
