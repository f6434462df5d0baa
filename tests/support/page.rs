//! A page of Markdown as its readers see it: headings with their anchors, links, and fenced blocks, each
//! with the marker above it.

use std::path::{Path, PathBuf};

/// A page of this repository.
pub struct Page {
    /// Relative to the repository.
    pub path: &'static str,
    pub text: String,
}

/// A fenced block.
pub struct Block {
    /// What stands behind the fence: `sh`, `python`; empty for a picture.
    pub language: String,
    pub text: String,
    pub marker: Marker,
    /// Of the fence, from 1.
    pub line: usize,
}

/// An HTML comment just above a block, which readers do not see.
#[derive(Debug, PartialEq, Eq)]
pub enum Marker {
    None,
    /// `<!-- starts the server -->`: it runs until it is stopped.
    Serves,
    /// `<!-- not run: REASON -->`.
    NotRun(String),
}

/// A heading.
pub struct Heading {
    /// 1 to 6.
    pub level: usize,
    /// What a link names it by, as GitHub makes it.
    pub anchor: String,
}

/// A link, such as `[text](target)`.
pub struct Link {
    pub text: String,
    pub target: String,
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Page {
    pub fn read(path: &'static str) -> Page {
        let text = std::fs::read_to_string(repository().join(path));
        Page { path, text: text.unwrap_or_else(|error| panic!("{path}: {error}")) }
    }

    /// The fenced blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let (mut is_open, mut above) = (false, "");
        for (line, text) in (1..).zip(self.text.lines()) {
            match (text.strip_prefix("```"), is_open) {
                (Some(language), false) => {
                    let (language, marker) = (language.to_owned(), Marker::read(above, self.path));
                    blocks.push(Block { language, text: String::new(), marker, line });
                    is_open = true;
                }
                (Some(_), true) => is_open = false,
                (None, true) => blocks.last_mut().unwrap().text.extend([text, "\n"]),
                (None, false) => {}
            }
            above = text;
        }
        assert!(!is_open, "{}: a fence is not closed", self.path);
        blocks
    }

    /// The lines outside of blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut is_open = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.starts_with("```");
            is_open ^= is_fence;
            !is_open && !is_fence
        })
    }

    /// The headings in order.
    pub fn headings(&self) -> Vec<Heading> {
        let lines = self.prose().filter(|line| line.starts_with('#'));
        lines
            .map(|line| {
                let title = line.trim_start_matches('#');
                Heading { level: line.len() - title.len(), anchor: anchor(title.trim()) }
            })
            .collect()
    }

    /// The lines from a heading of the second level to the next.
    pub fn section(&self, title: &str) -> &str {
        let heading = format!("\n## {title}\n");
        let start = self.text.find(&heading).expect("the section is there") + heading.len();
        let rest = &self.text[start..];
        &rest[..rest.find("\n## ").unwrap_or(rest.len())]
    }

    /// The links outside of blocks and of code within a line.
    pub fn links(&self) -> Vec<Link> {
        let prose: Vec<&str> = self.prose().collect();
        let prose = prose.join("\n");
        // What stands between backticks is every second piece.
        let outside: Vec<&str> = prose.split('`').step_by(2).collect();
        let outside = outside.join("`");
        let mut links = Vec::new();
        for (at, _) in outside.match_indices("](") {
            let text = outside[..at].rsplit('[').next().unwrap_or_default().to_owned();
            let target = outside[at + 2..].split(')').next().unwrap_or_default().to_owned();
            links.push(Link { text, target });
        }
        links
    }

    /// The path of the file that a relative link of this page leads to, and the anchor in it.
    pub fn resolve<'a>(&self, target: &'a str) -> (PathBuf, &'a str) {
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let own = Path::new(self.path);
        let path = match file {
            "" => own.to_owned(),
            file => own.parent().unwrap().join(file),
        };
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part.as_os_str() == ".." {
                true => assert!(plain.pop(), "{target} leads out of the repository"),
                false => plain.push(part),
            }
        }
        (plain, anchor)
    }

    /// The words of this form anywhere in the page, sorted, each once.
    pub fn words(&self, prefix: &str, is_part: fn(char) -> bool) -> Vec<&str> {
        let starts = self.text.match_indices(prefix).filter(|(at, _)| {
            let before = self.text[..*at].chars().next_back();
            before.is_none_or(|c| c != '-' && !is_part(c))
        });
        let words = starts.map(|(at, _)| {
            let rest = &self.text[at + prefix.len()..];
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            self.text[at..at + prefix.len() + length].trim_end_matches(['-', '_'])
        });
        let mut words: Vec<&str> = words.filter(|word| word.len() > prefix.len()).collect();
        words.sort_unstable();
        words.dedup();
        words
    }

    /// The program's variables that the page names.
    pub fn variables(&self) -> Vec<&str> {
        self.words("LANGFAST2API_", |c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    }

    /// The flags that the page names, of whatever program.
    pub fn flags(&self) -> Vec<&str> {
        self.words("--", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    }
}

impl Marker {
    fn read(line: &str, path: &str) -> Marker {
        let comment = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
        match comment.map(|comment| comment.split_once(": ").unwrap_or((comment, ""))) {
            None => Marker::None,
            Some(("starts the server", "")) => Marker::Serves,
            Some(("not run", why)) if !why.is_empty() => Marker::NotRun(why.to_owned()),
            Some(_) => panic!("{path}: {line} is no marker"),
        }
    }
}

impl Block {
    /// The text without comments and what is left of lines that were nothing else.
    pub fn without_comments(&self) -> String {
        let start = match self.language.as_str() {
            "sh" | "python" | "toml" | "yaml" | "nginx" => "#",
            "js" => "//",
            _ => return self.text.clone(),
        };
        let code = self.text.lines().map(|line| {
            let mut starts = line.match_indices(start).map(|(at, _)| at);
            let comment = starts.find(|at| {
                line[..*at].chars().all(char::is_whitespace) || line[..*at].ends_with(' ')
            });
            line[..comment.unwrap_or(line.len())].trim_end()
        });
        code.collect::<Vec<&str>>().join("\n")
    }
}

fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
