//! Whether a call is shown or meant, by the text before it. The rules:
//!
//! 1. In a fence that holds other lines before it, a line of a block quote or of a table, a comment of HTML,
//!    or an element for thinking or showing (`<think>`, `<example>`, …), and behind a backslash, it is shown.
//! 2. In a code span, also one of HTML, or quotes it is shown if the line holds other words before it.
//! 3. Behind words that announce something to be seen or not to be done (`PHRASES`, `UNREAL`) it is shown.
//! 4. First in a fence, indented as a block of code is, or in a code span or quotes of its own, it is meant if
//!    nothing but white space and further calls follow to the end of the text, and no such call before it was
//!    shown.
//! 5. Behind words of the same line that end no sentence it is meant if nothing else follows on that line.
//! 6. Anywhere else it is meant.

/// Number of bytes before a call that are looked at.
const REACH: usize = 256;
/// Longest line that can be a fence, in bytes.
const LONGEST_FENCE: usize = 100;

/// What announces an example, at the beginning or the end of a sentence, or of its last part.
const EXAMPLES: [&str; 18] = [
    "for example",
    "for instance",
    "e.g",
    "as an example",
    "zum beispiel",
    "beispielsweise",
    "z.b",
    "par exemple",
    "p. ex",
    "por ejemplo",
    "por exemplo",
    "per esempio",
    "ad esempio",
    "например",
    "例如",
    "比如",
    "例えば",
    "예를 들어",
];
/// The same at the end alone.
const AT_END: [&str; 7] =
    ["instead of", "rather than", "anstatt", "au lieu de", "en lugar de", "en vez de", "而不是"];
/// Words of a sentence in front of a call that is shown.
const PHRASES: [&str; 42] = [
    "here is an example",
    "here's an example",
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
    "hier ist ein beispiel",
    "so sieht ein aufruf",
    "so sähe",
    "nicht aus",
    "keinesfalls",
    "nicht aufrufen",
    "voici un exemple",
    "on pourrait",
    "vous pourriez",
    "ressemblerait",
    "n'exécut",
    "ne pas exécut",
    "ne lance",
    "no ejecut",
    "se podría",
    "não execut",
    "non esegu",
    "не выполня",
    "не запуска",
    "示例",
    "格式是",
    "格式如下",
    "不要执行",
    "不要运行",
    "不要调用",
    "不会执行",
    "不会运行",
    "不会调用",
    "実行しない",
    "실행하지",
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
/// The same in languages where the verb stands apart.
const UNREAL_ALONE: [&str; 10] = [
    "ich würde",
    "man würde",
    "ich könnte",
    "du könntest",
    "sie könnten",
    "man könnte",
    "j'exécuterais",
    "je lancerais",
    "j'appellerais",
    "ejecutaría",
];
const VERBS: [&str; 8] = ["run", "write", "call", "use", "execute", "send", "do", "make"];
/// Words of the last part of a sentence that say that the call is meant, whatever is before.
const INTENTS: [&str; 12] = [
    "let me",
    "let's",
    "i'll",
    "i will",
    "i am going to",
    "i'm going to",
    "ich werde",
    "lass mich",
    "je vais",
    "voy a",
    "让我",
    "我来",
];
/// What parts a sentence.
const PARTS: [&str; 8] = [", ", "; ", ": ", " — ", " – ", " but ", "，", "；"];
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

    /// True if the sentence before the call has words that show.
    fn is_announced(&self) -> bool {
        let before = self.tail.trim_end().to_lowercase().replace('’', "'");
        let before = before.trim_end_matches([':', '：', ' ', '\u{a0}']);
        let is_ended = before.ends_with(ENDS) && !before.ends_with("e.g.");
        let before = if is_ended { before.trim_end_matches(ENDS) } else { before };
        if EXAMPLES.iter().any(|words| before.trim_end_matches('.').ends_with(words)) {
            return true;
        }
        // A line of its own that says nothing, such as a bullet's, is not the sentence.
        let sentence =
            before.rsplit(['\n', '.', '!', '?', '。', '！', '？']).next().unwrap_or_default();
        match is_ended {
            true => PHRASES[..2].iter().any(|words| sentence.contains(words)),
            false => announces(sentence),
        }
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

/// True if a sentence, in small letters, says that what follows is to be seen, or not to be done.
fn announces(sentence: &str) -> bool {
    let sentence = sentence.trim_matches(|c: char| !c.is_alphanumeric());
    let part = PARTS.iter().fold(sentence, |part, sign| part.rsplit(sign).next().unwrap_or(part));
    let is_meant = INTENTS.iter().any(|words| part.contains(words)) && !is_unreal(part);
    !is_meant
        && (matches!(
            sentence,
            "example" | "examples" | "sample" | "beispiel" | "exemple" | "ejemplo"
        ) || EXAMPLES.iter().any(|words| sentence.starts_with(words))
            || AT_END.iter().any(|words| sentence.ends_with(words))
            || PHRASES.iter().any(|words| sentence.contains(words))
            || is_unreal(sentence))
}

fn is_unreal(sentence: &str) -> bool {
    let has_verb = |words: &&str| {
        sentence.match_indices(words).any(|(at, _)| {
            let behind = sentence[at + words.len()..].trim_start_matches(' ');
            VERBS.iter().any(|verb| {
                let rest = behind.strip_prefix(verb);
                rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
            })
        })
    };
    UNREAL_ALONE.iter().any(|words| sentence.contains(words)) || UNREAL.iter().any(has_verb)
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
