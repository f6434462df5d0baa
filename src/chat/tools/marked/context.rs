//! Whether a call is shown or meant, by the text before it. The rules:
//!
//! 1. In a fence that holds other lines before it, a line of a block quote or of a table, a comment of HTML,
//!    or an element for thinking or showing (`<think>`, `<example>`, …), and behind a backslash, it is shown.
//! 2. In a code span or quotes it is shown if the line holds other words before it.
//! 3. Behind words that announce something to be seen or not to be done (`PHRASES`, `UNREAL`) it is shown.
//! 4. First in a fence, or in a code span or quotes of its own, it is meant if nothing but white space and
//!    further calls follow to the end of the text, and no such call before it was shown.
//! 5. Behind words of the same line that end no sentence it is meant if nothing else follows on that line.
//! 6. Anywhere else it is meant.

/// Number of bytes before a call that are looked at.
const REACH: usize = 256;
/// Longest line that can be a fence, in bytes.
const LONGEST_FENCE: usize = 100;

/// Words of a sentence in front of a call that is shown.
const PHRASES: [&str; 25] = [
    "for example",
    "e.g",
    "for instance",
    "as an example",
    "example call",
    "example of a call",
    "form is",
    "format is",
    "syntax is",
    "would look like",
    "look like this",
    "looks like this",
    "calls look like",
    "call looks like",
    "例如",
    "比如",
    "示例",
    "格式是",
    "格式如下",
    "不要执行",
    "不要运行",
    "不要调用",
    "不会执行",
    "不会运行",
    "不会调用",
];
/// Words that make one of `VERBS` behind them something that is not done.
const UNREAL: [&str; 22] = [
    "i would",
    "i could",
    "you would",
    "you could",
    "one would",
    "one could",
    "we would",
    "we could",
    "i'd",
    "will not",
    "won't",
    "would not",
    "wouldn't",
    "do not",
    "don't",
    "never",
    "must not",
    "mustn't",
    "should not",
    "shouldn't",
    "not going to",
    "refuse to",
];
const VERBS: [&str; 8] = ["run", "write", "call", "use", "execute", "send", "do", "make"];
/// Elements in which calls are shown.
const ELEMENTS: [&str; 10] = [
    "think",
    "thinking",
    "reasoning",
    "analysis",
    "scratchpad",
    "example",
    "examples",
    "pre",
    "code",
    "blockquote",
];
const QUOTES: [char; 11] = ['`', '"', '“', '”', '\'', '‘', '«', '„', '「', '『', '’'];
const ENDS: [char; 8] = ['.', '!', '?', '…', '。', '！', '？', '>'];

/// How a call stands in the text before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is meant.
    Meant,
    /// It is shown, and what follows it does not matter.
    Shown,
    /// It is shown, as are those that follow it directly.
    ShownWithNext,
    /// It is meant if nothing but calls follows to the end.
    IfLast,
    /// It is meant if nothing else follows on its line; `true` behind a colon.
    IfLastOnLine(bool),
}

/// The text before a call, as far as it matters.
#[derive(Debug, Default)]
pub struct Context {
    /// The last of the text.
    tail: String,
    /// The character of the open fence, and its length.
    fence: Option<(char, usize)>,
    /// What ends the open element or comment.
    within: Option<String>,
    /// Whether a call in a fence has turned out to be shown.
    shows_fenced: bool,
}

impl Context {
    /// Notes text that the client gets.
    pub fn note(&mut self, text: &str) {
        if !text.bytes().any(|byte| matches!(byte, b'\n' | b'>' | b'-')) {
            return self.push(text);
        }
        for part in text.split_inclusive(['\n', '>', '-']) {
            self.push(part);
            match part.as_bytes()[part.len() - 1] {
                b'\n' => self.end_line(),
                b'>' => self.end_tag(),
                b'-' if self.tail.ends_with("<!--") => self.end_tag(),
                _ => {}
            }
        }
    }

    /// Notes that a call was shown; `fenced` if it stood in a fence or code span of its own.
    pub fn note_shown(&mut self, fenced: bool) {
        self.shows_fenced |= fenced;
    }

    fn push(&mut self, text: &str) {
        self.tail.push_str(text);
        if self.tail.len() > 2 * REACH {
            let boundary = |at: &usize| self.tail.is_char_boundary(*at);
            let cut = (self.tail.len() - REACH..self.tail.len()).find(boundary);
            self.tail.drain(..cut.unwrap_or(0));
        }
    }

    /// True if nothing stands on the current line.
    pub fn is_at_line_start(&self) -> bool {
        self.tail.is_empty() || self.tail.ends_with('\n')
    }

    fn line(&self) -> &str {
        self.tail.rsplit('\n').next().unwrap_or_default()
    }

    /// Opens or closes a fence, if the line that has ended is one.
    fn end_line(&mut self) {
        let ended = &self.tail[..self.tail.len() - 1];
        let line = ended.rsplit('\n').next().unwrap_or_default().trim();
        let line = line.trim_start_matches(|c: char| "-*+>".contains(c) || c.is_whitespace());
        let Some(c) = line.chars().next().filter(|c| matches!(c, '`' | '~')) else { return };
        let length = line.len() - line.trim_start_matches(c).len();
        match self.fence {
            Some((open, least)) if open == c && length >= least && length == line.len() => {
                self.fence = None;
            }
            None if length >= 3 && line.len() <= LONGEST_FENCE && !line[length..].contains(c) => {
                self.fence = Some((c, length));
            }
            _ => {}
        }
    }

    /// Opens or closes an element or comment, if it begins or ends here.
    fn end_tag(&mut self) {
        if self.fence.is_some() {
            return;
        }
        if let Some(end) = &self.within {
            if self.tail.ends_with(end.as_str()) {
                self.within = None;
            }
            return;
        }
        let line = self.line();
        if let Some(before) = line.strip_suffix("<!--") {
            if before.matches('`').count() % 2 == 0 {
                self.within = Some("-->".to_owned());
            }
            return;
        }
        let name = line.trim_start().strip_prefix('<').and_then(|tag| tag.strip_suffix('>'));
        let Some(name) = name else { return };
        let name = name.split(' ').next().unwrap_or_default();
        if ELEMENTS.contains(&name) || name.starts_with("result-") {
            self.within = Some(format!("</{name}>"));
        }
    }

    /// Says how a call stands that begins here, behind the held text `lead`; `in_fence` if it is the first
    /// thing in a fence or code span there.
    pub fn standing(&self, lead: &str, in_fence: bool) -> Standing {
        if self.fence.is_some() || self.within.is_some() {
            return Standing::Shown;
        }
        let line = if lead.contains('\n') { "" } else { self.line() };
        let has_words = line.contains(char::is_alphabetic);
        if line.trim_start().starts_with(['>', '|']) || line.ends_with('\\') {
            return Standing::Shown;
        }
        let is_next = lead.trim_matches('`').is_empty();
        let is_quoted = is_next && (line.ends_with(QUOTES) || lead.starts_with('`'));
        if has_words && (is_quoted || is_in_span(line)) {
            return Standing::Shown;
        }
        if self.is_announced() {
            return Standing::ShownWithNext;
        }
        if in_fence || is_quoted {
            return if self.shows_fenced { Standing::ShownWithNext } else { Standing::IfLast };
        }
        let before = line.trim_end();
        match has_words && !before.ends_with(ENDS) {
            true => Standing::IfLastOnLine(before.ends_with([':', '：'])),
            false => Standing::Meant,
        }
    }

    /// True if the sentence before the call, which is not ended or ends in a colon, has words that show.
    fn is_announced(&self) -> bool {
        let before = self.tail.trim_end().to_lowercase();
        if before.ends_with("e.g.") || before.ends_with("i.e.") {
            return true;
        }
        if before.ends_with(ENDS) {
            return false;
        }
        // A line of its own that says nothing, such as a bullet's, is not the sentence.
        let sentence = before.rsplit(['\n', '.', '!', '?', '。', '！', '？']).next();
        sentence.is_some_and(announces)
    }
}

/// True if a sentence, in small letters, says that what follows is to be seen, or not to be done.
fn announces(sentence: &str) -> bool {
    let sentence = sentence.replace('’', "'");
    let is_unreal = |words: &&str| {
        sentence.match_indices(words).any(|(at, _)| {
            let behind = sentence[at + words.len()..].trim_start_matches(' ');
            VERBS.iter().any(|verb| {
                let rest = behind.strip_prefix(verb);
                rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
            })
        })
    };
    let alone = sentence.trim_matches(|c: char| !c.is_alphanumeric());
    matches!(alone, "example" | "examples" | "sample")
        || PHRASES.iter().any(|phrase| sentence.contains(phrase))
        || UNREAL.iter().any(is_unreal)
}

/// True if a code span is open at the end of a line's beginning.
fn is_in_span(line: &str) -> bool {
    let mut open = 0;
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        let run = rest[at..].len() - rest[at..].trim_start_matches('`').len();
        match open {
            0 => open = run,
            _ if open == run => open = 0,
            _ => {}
        }
        rest = &rest[at + run..];
    }
    open > 0
}
