//! Whether a call is shown or meant, by the text before it. The rules:
//!
//! 1. In a fence that holds other lines before it, a line of a block quote or of a table, a comment of HTML,
//!    or an element for thinking or showing (`<think>`, `<example>`, …), and behind a backslash, it is shown.
//! 2. In a code span, also one of HTML, or quotes it is shown if the line holds other words before it.
//! 3. Behind words that announce something to be seen, not to be done, or to be done if somebody agrees (`phrases`)
//!    it is shown.
//! 4. First in a fence, indented as a block of code is, or in a code span or quotes of its own, it is meant if
//!    nothing but white space and further calls follow to the end of the text, and no such call before it was
//!    shown.
//! 5. Behind words of the same line that end no sentence it is meant if nothing else follows on that line.
//! 6. Anywhere else it is meant.

use super::label;
use super::phrases::{
    ASKING, AT_END, CONDITIONS, DENIALS, EXAMPLES, FAILURES, INTENTS, LABEL_ROOTS, LABELS, PARTS,
    PHRASES, SHOWING, UNREAL, UNREAL_ALONE, VERBS,
};

/// Number of bytes before a call that are looked at.
const REACH: usize = 256;
/// Longest line that can be a fence, in bytes.
const LONGEST_FENCE: usize = 100;

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
/// What ends a sentence, or begins another.
const SENTENCES: [char; 9] = ['\n', '.', '!', '?', '。', '！', '？', '؟', '।'];
/// Words in front of `not` that tell of what was.
const PAST: [&str; 11] =
    ["did", "does", "could", "can", "has", "have", "had", "was", "were", "is", "are"];
const QUOTES: [char; 11] = ['`', '"', '“', '”', '\'', '‘', '«', '„', '「', '『', '’'];
const ENDS: [char; 10] = ['.', '!', '?', '…', '。', '！', '？', '؟', '।', '>'];
/// Most words of a sentence that is a label.
const LONGEST_LABEL: usize = 3;

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
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'\n' | b'>' | b'-')) {
            let (part, behind) = rest.split_at(at + 1);
            self.push(part);
            rest = behind;
            match part.as_bytes()[at] {
                b'\n' => self.end_line(),
                b'>' => self.end_tag(),
                _ if self.tail.ends_with("<!--") => self.end_tag(),
                _ => {}
            }
        }
        self.push(rest);
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

    /// True if the current line opens a fence.
    pub fn is_on_fence(&self) -> bool {
        self.fence.is_none() && opened(bare_line(self.line())).is_some()
    }

    /// True behind a backtick.
    pub fn ends_with_backtick(&self) -> bool {
        self.tail.ends_with('`')
    }

    /// True in a fence, unless the current line closes it.
    pub fn is_in_fence(&self) -> bool {
        self.fence.is_some_and(|fence| !closes(fence, bare_line(self.line())))
    }

    fn line(&self) -> &str {
        self.tail.rsplit('\n').next().unwrap_or_default()
    }

    /// Opens or closes a fence, if the line that has ended is one.
    fn end_line(&mut self) {
        let ended = &self.tail[..self.tail.len() - 1];
        let line = bare_line(ended.rsplit('\n').next().unwrap_or_default());
        match self.fence {
            Some(fence) if closes(fence, line) => self.fence = None,
            Some(_) => {}
            None => self.fence = opened(line),
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
        let Some(at) = self.tail.rfind('<') else { return };
        let tag = &self.tail[at + 1..self.tail.len() - 1];
        let name = tag.split(' ').next().unwrap_or_default();
        if tag == "!-" {
            let before = self.line().matches('`').count();
            self.within = (before % 2 == 0).then(|| "-->".to_owned());
        } else if (ELEMENTS.contains(&name) || name.starts_with("result-"))
            && self.line().trim_start().len() == self.tail.len() - at
        {
            self.within = Some(format!("</{name}>"));
        }
    }

    /// Says how a call stands that begins here, behind the held text `lead`; `in_fence` if it is the first
    /// thing in a fence or code span there.
    pub fn standing(&self, lead: &str, in_fence: bool) -> Standing {
        if self.is_in_fence() || self.within.is_some() {
            return Standing::Shown;
        }
        let line = if lead.contains('\n') { "" } else { self.line() };
        if shows(line) {
            return Standing::Shown;
        }
        let is_next = lead.trim_matches('`').is_empty();
        let element = before_element(line).filter(|_| is_next);
        let is_quoted =
            is_next && (line.ends_with(QUOTES) || lead.starts_with('`') || element.is_some());
        let line = element.unwrap_or(line);
        let has_words = line.contains(char::is_alphabetic);
        if has_words && (is_quoted || is_in_span(line)) {
            return Standing::Shown;
        }
        if self.is_announced() {
            return Standing::ShownWithNext;
        }
        if in_fence || is_quoted || is_indented(lead) {
            return if self.shows_fenced { Standing::ShownWithNext } else { Standing::IfLast };
        }
        let before = line.trim_end();
        match has_words && !before.ends_with(ENDS) {
            true => Standing::IfLastOnLine(before.ends_with([':', '：'])),
            false => Standing::Meant,
        }
    }

    /// True if the sentence before the call has words that show. A line that is a mere label is none.
    fn is_announced(&self) -> bool {
        let before = label::small_letters(self.tail.trim_end()).replace('’', "'");
        let mut before = before.as_str();
        while let Some((above, line)) = before.rsplit_once('\n') {
            if !label::is_one(line) {
                break;
            }
            before = above.trim_end();
        }
        is_announced(before)
    }
}

/// True if the last sentence of a text in small letters has words that show.
fn is_announced(before: &str) -> bool {
    let is_around = |c: char| c.is_whitespace() || "*_:：".contains(c) || QUOTES.contains(&c);
    let before = before.trim_end_matches(is_around);
    let is_question = before.ends_with(['?', '？', '؟']);
    let is_ended = before.ends_with(ENDS) && !before.ends_with("e.g.");
    let before = if is_ended { before.trim_end_matches(ENDS) } else { before };
    if EXAMPLES.iter().any(|words| before.trim_end_matches('.').ends_with(words)) {
        return true;
    }
    // A line of its own that says nothing, such as a bullet's, is not the sentence.
    let sentence = before.rsplit(SENTENCES).next().unwrap_or_default();
    match is_ended {
        true => has_any(sentence, SHOWING) || (is_question && has_any(sentence, ASKING)),
        false => announces(sentence),
    }
}

/// True if the beginning of a line shows what follows: a block quote, a table, a comment of code, text that is
/// struck out.
fn shows(line: &str) -> bool {
    let begin = line.trim_start();
    ["//", "/*", ">", "|"].iter().any(|sign| begin.starts_with(sign))
        || line.ends_with('\\')
        || line.matches("~~").count() % 2 == 1
}

/// True if the line that a call begins is indented as a block of code is.
fn is_indented(lead: &str) -> bool {
    let indent = lead.rsplit('\n').next().unwrap_or_default();
    let is_blank = indent.bytes().all(|byte| matches!(byte, b' ' | b'\t'));
    is_blank && indent.len() < lead.len() && (indent.len() >= 4 || indent.contains('\t'))
}

fn has_any(text: &str, list: &[&str]) -> bool {
    list.iter().any(|words| text.contains(words))
}

/// True if a sentence holds a denial that is no part of longer words.
fn denies(sentence: &str) -> bool {
    let mut found = DENIALS.iter().flat_map(|words| sentence.match_indices(words));
    found.any(|(at, words)| begins_word(&sentence[..at], words))
}

/// True if these words behind that text are not the end of a longer one. Scripts without blanks do not show it;
/// but `别` alone is `do not`, and `分别` is `each`. In Arabic, `and` is written with the word behind it.
fn begins_word(before: &str, words: &str) -> bool {
    let Some(last) = before.chars().next_back() else { return true };
    match words.chars().next() {
        Some('别') => !"分特个個级类區区识辨差性".contains(last),
        Some(first) if label::is_in_word(first) && !label::is_unspaced(first) => {
            !label::is_in_word(last) || label::is_unspaced(last) || "وف".contains(last)
        }
        _ => true,
    }
}

/// True if a sentence, or a part of it, begins with some of the words.
fn begins_part(sentence: &str, list: &[&str]) -> bool {
    let mut starts = list.iter().flat_map(|words| sentence.match_indices(words));
    starts.any(|(at, _)| {
        let before = sentence[..at].trim_end();
        before.is_empty() || before.ends_with([',', ';', ':', '—', '–']) || before.ends_with(" but")
    })
}

/// True if a sentence, in small letters, says that what follows is to be seen, or not to be done.
fn announces(sentence: &str) -> bool {
    let sentence = sentence.trim_matches(|c: char| !c.is_alphanumeric());
    let part = PARTS.iter().fold(sentence, |part, sign| part.rsplit(sign).next().unwrap_or(part));
    // What something is done for is not what is done.
    let purposes = [" so you ", " so that "];
    let deed = purposes.iter().fold(part, |deed, words| deed.split(words).next().unwrap_or(deed));
    let is_meant = has_any(deed, INTENTS) && !is_unreal(deed);
    has_any(sentence, CONDITIONS)
        || begins_part(sentence, FAILURES)
        || (!is_meant
            && (is_label(sentence)
                || EXAMPLES.iter().any(|words| sentence.starts_with(words))
                || AT_END.iter().any(|words| sentence.ends_with(words))
                || [PHRASES, SHOWING].iter().any(|list| has_any(sentence, list))
                || is_unreal(sentence)))
}

/// True if a sentence is nothing but a label such as `Example 2`.
fn is_label(sentence: &str) -> bool {
    let label = sentence.trim_end_matches(|c: char| !c.is_alphabetic() || c.is_numeric());
    let is_short = || sentence.split_whitespace().nth(LONGEST_LABEL).is_none();
    LABELS.contains(&label)
        || (LABEL_ROOTS.iter().any(|root| sentence.starts_with(root)) && is_short())
}

/// True if a sentence speaks of what is not done, or might be.
fn is_unreal(sentence: &str) -> bool {
    denies(sentence)
        || has_any(sentence, UNREAL_ALONE)
        || UNREAL.iter().any(|words| is_before_verb(sentence, words))
        || is_not_done(sentence)
}

/// True if one of the verbs stands right behind these words.
fn is_before_verb(sentence: &str, words: &str) -> bool {
    sentence.match_indices(words).any(|(at, _)| begins_with_verb(&sentence[at + words.len()..]))
}

fn begins_with_verb(text: &str) -> bool {
    let text = text.trim_start_matches(' ');
    VERBS.iter().any(|verb| {
        let rest = text.strip_prefix(verb);
        rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    })
}

/// True if a sentence has a verb behind `not` that tells of nothing past, as `did not run` does.
fn is_not_done(sentence: &str) -> bool {
    sentence.match_indices("not ").any(|(at, not)| {
        let before = sentence[..at].trim_end();
        let is_word = at == 0 || sentence[..at].ends_with(' ');
        is_word
            && !PAST.iter().any(|word| before.ends_with(word))
            && begins_with_verb(&sentence[at + not.len()..])
    })
}

/// A line's beginning before the tag that it ends with, if that begins an element in which calls are shown.
fn before_element(line: &str) -> Option<&str> {
    let (before, tag) = line.strip_suffix('>')?.rsplit_once('<')?;
    ELEMENTS.contains(&tag.split(' ').next()?).then_some(before)
}

/// A line without what a list or block quote begins it with.
fn bare_line(line: &str) -> &str {
    line.trim().trim_start_matches(|c: char| "-*+>".contains(c) || c.is_whitespace())
}

/// The fence that a line opens.
fn opened(line: &str) -> Option<(char, usize)> {
    let c = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = line.len() - line.trim_start_matches(c).len();
    let is_one = length >= 3 && line.len() <= LONGEST_FENCE && !line[length..].contains(c);
    is_one.then_some((c, length))
}

fn closes((c, least): (char, usize), line: &str) -> bool {
    line.len() >= least && line.chars().all(|other| other == c)
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
