//! Regular expressions in ECMAScript's notation with its flag `u`, as JSON Schema's `pattern` has
//! them. Time is linear in the text, whatever the pattern: all ways to match are followed at once.
//!
//! What cannot be followed in this way (look-around, back-references), and what is rare enough to be
//! left out (classes by property, `\b` in a class, modifiers), is not read at all.

use std::iter::Peekable;
use std::ops::RangeInclusive;
use std::str::Chars;

/// Most instructions of a pattern, its repetitions written out.
const MOST_OPS: usize = 2_000;
/// Deepest nesting of groups.
const DEEPEST: usize = 50;

type Span = RangeInclusive<u32>;

const LAST: u32 = char::MAX as u32;
const DIGITS: &[Span] = &[0x30..=0x39];
const WORD: &[Span] = &[0x30..=0x39, 0x41..=0x5a, 0x5f..=0x5f, 0x61..=0x7a];
const LINE_ENDS: &[Span] = &[0x0a..=0x0a, 0x0d..=0x0d, 0x2028..=0x2029];
/// ECMAScript's white space and line ends, in ascending order as [`complement`] needs it.
const SPACES: &[Span] = &[
    0x09..=0x0d,
    0x20..=0x20,
    0xa0..=0xa0,
    0x1680..=0x1680,
    0x2000..=0x200a,
    0x2028..=0x2029,
    0x202f..=0x202f,
    0x205f..=0x205f,
    0x3000..=0x3000,
    0xfeff..=0xfeff,
];

/// An instruction; offsets count from itself, so that a repeated part can be copied.
#[derive(Clone, Copy)]
enum Op {
    /// Takes one character of a set, `spans[from..to]`, or, if `negated`, one of all others.
    Take { from: usize, to: usize, negated: bool },
    /// Goes on behind itself, and also elsewhere.
    Split(isize),
    /// Goes on elsewhere.
    Jump(isize),
    /// Passes at the text's start alone.
    Start,
    /// Passes at the text's end alone.
    End,
    /// Passes at a word's edge alone, or, if false, anywhere else.
    Edge(bool),
}

/// A pattern that can be searched for.
pub struct Pattern {
    ops: Vec<Op>,
    spans: Vec<Span>,
}

impl Pattern {
    /// Reads a pattern; `None` if it is wrong, longer than 2,000 instructions, or has something that is not
    /// understood.
    pub fn read(text: &str) -> Option<Pattern> {
        let pattern = Pattern { ops: Vec::new(), spans: Vec::new() };
        let mut reader = Reader { rest: text.chars().peekable(), pattern };
        reader.alternatives(0)?;
        reader.rest.next().is_none().then_some(reader.pattern)
    }

    /// Returns the most steps that a search takes for each character of a text.
    pub fn cost(&self) -> usize {
        let cost = |op: &Op| match op {
            // Copies of a repeated part share its spans, and each looks through them.
            Op::Take { from, to, .. } => 1 + to - from,
            _ => 1,
        };
        1 + self.ops.iter().map(cost).sum::<usize>()
    }

    /// True if the pattern matches anywhere in a text.
    pub fn is_in(&self, text: &str) -> bool {
        let mut search =
            Search { pattern: self, waiting: Vec::new(), seen: vec![0; self.ops.len()] };
        let (mut before, mut rest, mut due) = (None, text.chars(), Vec::new());
        for step in 1.. {
            let at = Gap { before, after: rest.clone().next(), step };
            // A match may begin anywhere.
            due.push(0);
            if due.drain(..).any(|op| search.reach(op, &at)) {
                return true;
            }
            before = rest.next();
            let Some(character) = before else { break };
            let waiting = search.waiting.drain(..);
            due.extend(waiting.filter(|op| self.takes(*op, character)).map(|op| op + 1));
        }
        false
    }

    fn takes(&self, op: usize, character: char) -> bool {
        let Op::Take { from, to, negated } = self.ops[op] else { return false };
        let code = u32::from(character);
        self.spans[from..to].iter().any(|span| span.contains(&code)) != negated
    }
}

/// A place between two characters.
struct Gap {
    before: Option<char>,
    after: Option<char>,
    /// The number of the place, from 1.
    step: usize,
}

impl Gap {
    fn is_edge(&self) -> bool {
        let word = |character: Option<char>| {
            character.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        word(self.before) != word(self.after)
    }
}

struct Search<'p> {
    pattern: &'p Pattern,
    /// The instructions that wait for the next character.
    waiting: Vec<usize>,
    /// For each instruction the last step in which it was reached.
    seen: Vec<usize>,
}

impl Search<'_> {
    /// Follows the pattern from an instruction on until characters are needed. True if it ends.
    fn reach(&mut self, op: usize, at: &Gap) -> bool {
        let mut open = vec![op];
        while let Some(op) = open.pop() {
            let Some(next) = self.pattern.ops.get(op) else { return true };
            if std::mem::replace(&mut self.seen[op], at.step) == at.step {
                continue;
            }
            let passes = match next {
                Op::Take { .. } => {
                    self.waiting.push(op);
                    false
                }
                Op::Split(offset) => {
                    open.push(op.wrapping_add_signed(*offset));
                    true
                }
                Op::Jump(offset) => {
                    open.push(op.wrapping_add_signed(*offset));
                    false
                }
                Op::Start => at.before.is_none(),
                Op::End => at.after.is_none(),
                Op::Edge(wanted) => at.is_edge() == *wanted,
            };
            if passes {
                open.push(op + 1);
            }
        }
        false
    }
}

struct Reader<'t> {
    rest: Peekable<Chars<'t>>,
    pattern: Pattern,
}

impl Reader<'_> {
    fn alternatives(&mut self, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        let mut exits = Vec::new();
        loop {
            let start = self.pattern.ops.len();
            while self.rest.peek().is_some_and(|next| !matches!(next, '|' | ')')) {
                self.term(depth)?;
            }
            if self.rest.next_if_eq(&'|').is_none() {
                break;
            }
            let length = self.pattern.ops.len() - start;
            self.pattern.ops.insert(start, Op::Split(length as isize + 2));
            exits.push(self.pattern.ops.len());
            self.pattern.ops.push(Op::Jump(0));
        }
        let end = self.pattern.ops.len();
        for exit in exits {
            self.pattern.ops[exit] = Op::Jump((end - exit) as isize);
        }
        (end <= MOST_OPS).then_some(())
    }

    /// Reads an atom, and how often it is repeated.
    fn term(&mut self, depth: usize) -> Option<()> {
        let start = self.pattern.ops.len();
        let repeatable = self.atom(depth)?;
        let Some((least, most)) = self.repetition()? else { return Some(()) };
        self.rest.next_if_eq(&'?');
        let part = self.pattern.ops.split_off(start);
        let copies = most.unwrap_or(least.max(1));
        let size = copies.checked_mul(part.len() + 2)?.checked_add(start)?;
        if !repeatable || size > MOST_OPS || most.is_some_and(|most| most < least.max(1)) {
            return None;
        }
        self.repeat(&part, least, most);
        Some(())
    }

    fn repeat(&mut self, part: &[Op], least: usize, most: Option<usize>) {
        let ops = &mut self.pattern.ops;
        let length = part.len() as isize;
        (0..least).for_each(|_| ops.extend(part));
        let Some(most) = most else {
            ops.push(Op::Split(length + 2));
            ops.extend(part);
            ops.push(Op::Jump(-length - 1));
            return;
        };
        for _ in least..most {
            ops.push(Op::Split(length + 1));
            ops.extend(part);
        }
    }

    /// Reads how often the atom before it is repeated: `Some(None)` if nothing says so.
    fn repetition(&mut self) -> Option<Option<(usize, Option<usize>)>> {
        let (least, most) = match self.rest.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.counts().map(Some),
            _ => return Some(None),
        };
        self.rest.next();
        Some(Some((least, most)))
    }

    fn counts(&mut self) -> Option<(usize, Option<usize>)> {
        self.rest.next();
        let least = self.number()?;
        let most = match self.rest.next()? {
            '}' => return Some((least, Some(least))),
            ',' if self.rest.peek() == Some(&'}') => None,
            ',' => Some(self.number()?),
            _ => return None,
        };
        (self.rest.next()? == '}').then_some((least, most))
    }

    fn number(&mut self) -> Option<usize> {
        let mut digits = String::new();
        while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        digits.parse().ok()
    }

    /// Reads an atom; false if it is an assertion, behind which no repetition may stand.
    fn atom(&mut self, depth: usize) -> Option<bool> {
        let mut negated = false;
        let spans = match self.rest.next()? {
            '^' => return self.assertion(Op::Start),
            '$' => return self.assertion(Op::End),
            '(' => return self.group(depth),
            '\\' if self.rest.next_if_eq(&'b').is_some() => return self.assertion(Op::Edge(true)),
            '\\' if self.rest.next_if_eq(&'B').is_some() => return self.assertion(Op::Edge(false)),
            '\\' => self.escape()?,
            '.' => complement(LINE_ENDS),
            '[' => {
                negated = self.rest.next_if_eq(&'^').is_some();
                self.class()?
            }
            '*' | '+' | '?' | '{' | '}' | ']' => return None,
            literal => vec![one(literal)],
        };
        if self.pattern.ops.len() > MOST_OPS {
            return None;
        }
        let from = self.pattern.spans.len();
        self.pattern.spans.extend(spans);
        let to = self.pattern.spans.len();
        self.pattern.ops.push(Op::Take { from, to, negated });
        Some(true)
    }

    fn assertion(&mut self, op: Op) -> Option<bool> {
        self.pattern.ops.push(op);
        Some(false)
    }

    fn group(&mut self, depth: usize) -> Option<bool> {
        if self.rest.next_if_eq(&'?').is_some() && self.rest.next()? != ':' {
            return None;
        }
        self.alternatives(depth + 1)?;
        (self.rest.next()? == ')').then_some(true)
    }

    /// Reads what follows a backslash, as the characters that it stands for.
    fn escape(&mut self) -> Option<Vec<Span>> {
        let code = match self.rest.next()? {
            'd' => return Some(DIGITS.to_vec()),
            'D' => return Some(complement(DIGITS)),
            'w' => return Some(WORD.to_vec()),
            'W' => return Some(complement(WORD)),
            's' => return Some(SPACES.to_vec()),
            'S' => return Some(complement(SPACES)),
            't' => 0x09,
            'n' => 0x0a,
            'v' => 0x0b,
            'f' => 0x0c,
            'r' => 0x0d,
            '0' if !self.rest.peek().is_some_and(char::is_ascii_digit) => 0,
            'x' => self.hex(2)?,
            'u' => self.hex(4).filter(|code| char::from_u32(*code).is_some())?,
            sign if sign.is_ascii_punctuation() => sign.into(),
            _ => return None,
        };
        Some(vec![code..=code])
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        (0..digits).try_fold(0, |code, _| Some(code * 16 + self.rest.next()?.to_digit(16)?))
    }

    /// Reads the rest of a class, as the characters that it names.
    fn class(&mut self) -> Option<Vec<Span>> {
        let mut spans = Vec::new();
        while self.rest.next_if_eq(&']').is_none() {
            spans.extend(self.class_part()?);
        }
        Some(spans)
    }

    fn class_part(&mut self) -> Option<Vec<Span>> {
        let first = self.class_atom()?;
        if self.rest.peek() != Some(&'-') {
            return Some(first);
        }
        self.rest.next();
        if self.rest.peek() == Some(&']') {
            return Some([first, vec![one('-')]].concat());
        }
        let last = self.class_atom()?;
        let (first, last) = (single(&first)?, single(&last)?);
        (first <= last).then(|| vec![first..=last])
    }

    fn class_atom(&mut self) -> Option<Vec<Span>> {
        match self.rest.next()? {
            '\\' => self.escape(),
            literal => Some(vec![one(literal)]),
        }
    }
}

fn one(character: char) -> Span {
    u32::from(character)..=u32::from(character)
}

fn single(spans: &[Span]) -> Option<u32> {
    match spans {
        [span] if span.start() == span.end() => Some(*span.start()),
        _ => None,
    }
}

/// All characters that are not in these spans, which ascend and neither begin at the first nor end at the
/// last character.
fn complement(spans: &[Span]) -> Vec<Span> {
    let mut from = 0;
    let mut rest = Vec::new();
    for span in spans {
        rest.push(from..=span.start() - 1);
        from = span.end() + 1;
    }
    rest.push(from..=LAST);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_ecmascript() {
        for (pattern, good, bad) in [
            ("", vec!["", "a"], vec![]),
            ("a", vec!["a", "bab"], vec!["", "b"]),
            ("^a$", vec!["a"], vec!["ba", "ab", "a\n"]),
            ("^[a-c]+$", vec!["a", "abc"], vec!["", "abd"]),
            ("^[^a-c]$", vec!["d", "é", "😀"], vec!["a", "dd"]),
            ("^(ab|c|)d$", vec!["abd", "cd", "d"], vec!["ad", "bd"]),
            ("^a{2,3}$", vec!["aa", "aaa"], vec!["a", "aaaa"]),
            ("^a{2}$", vec!["aa"], vec!["a", "aaa"]),
            ("^(?:ab){2,}?$", vec!["abab", "ababab"], vec!["ab"]),
            ("^(a|b)*c?$", vec!["", "abba", "bc"], vec!["cc"]),
            (r"^\d\D\w\W\s\S$", vec!["1éa-\u{a0}x"], vec!["ééa-\u{a0}x", "1éa- \u{feff}"]),
            (r"\bcat\b", vec!["a cat", "cat"], vec!["cats", "concat"]),
            (r"^\u00e9\x41\t\.\/$", vec!["éA\t./"], vec!["éA\tx/"]),
            ("^.$", vec!["😀", "\u{85}"], vec!["\n", "\u{2028}", "ab"]),
            (r"^[\w.-]+@[\w-]+\.[a-z]{2,}$", vec!["a.b@c-d.org"], vec!["a@b", "@b.cc"]),
            (r"^[\]\\^-]$", vec!["]", "\\", "^", "-"], vec!["a"]),
        ] {
            let read = Pattern::read(pattern).unwrap();
            for text in good {
                assert!(read.is_in(text), "{pattern} in {text:?}");
            }
            for text in bad {
                assert!(!read.is_in(text), "{pattern} in {text:?}");
            }
        }
    }

    #[test]
    fn what_is_wrong_or_not_understood_is_not_read() {
        for pattern in [
            "(",
            ")",
            "a)",
            "[",
            "[a",
            "*",
            "a**",
            "a{2,1}",
            "a{",
            "{",
            "]",
            "\\",
            r"\p{L}",
            r"(a)\1",
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "(?<n>a)",
            "(?i:a)",
            r"\A",
            r"\u{61}",
            r"\ud83d",
            r"[\b]",
            "[b-a]",
            r"[a-\d]",
            "^*",
            "a{0}",
            "a{99999999999999999999}",
            "((a{50}){50})",
        ] {
            assert!(Pattern::read(pattern).is_none(), "{pattern}");
        }
        assert!(Pattern::read(&"(".repeat(100_000)).is_none());
        assert!(Pattern::read(&"a".repeat(100_000)).is_none());
    }

    #[test]
    fn the_time_of_a_search_does_not_grow_with_the_ways_to_match() {
        let text = "x".repeat(5_000);
        for pattern in ["^(x+x+)+y$", "^(x*)*y$", "(x|xx)+y", "^(x?){40}x{40}y"] {
            assert!(!Pattern::read(pattern).unwrap().is_in(&text), "{pattern}");
        }
    }

    #[test]
    fn each_copy_of_a_class_that_is_repeated_counts_as_cost() {
        let class = format!("[{}]{{600}}", "acegi".repeat(1_000));
        assert!(Pattern::read(&class).unwrap().cost() > 600 * 5_000);
    }
}
