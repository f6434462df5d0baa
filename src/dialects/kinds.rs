//! The kinds of content, item and tool that clients send, and what becomes of each. A dialect has a table
//! for each of its lists, from a kind's name to how it is read: what stands in no table is left out and
//! named, since clients send what is new to us again with every request of a conversation.

use crate::chat::{LeftOut, Standing};

/// What becomes of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Its text goes into the prompt.
    Text,
    /// A tool that the client runs, or a call or result of one: the model gets it as text.
    Tool,
    /// An image, a recording or a file: see [`crate::chat::media`].
    Media,
    /// Passed over silently: no model here could read it, and it tells the user nothing.
    PassedOver,
    /// Left out and named: it needs a server of OpenAI's or Anthropic's, or cannot be read without one.
    LeftOut,
    /// An error: what it asks for is no answer.
    Refused,
}

/// How a kind is read.
pub trait Reading {
    /// Returns what becomes of a kind that is read in this way.
    fn fate(&self) -> Fate;
}

/// Kinds by their names. A name that ends in `*` means every name with that beginning; the first row that fits
/// counts.
pub type Table<R> = &'static [(&'static str, R)];

/// Returns the row of a kind in a table; `None` if it is unknown.
pub fn find<R>(table: Table<R>, name: &str) -> Option<&'static (&'static str, R)> {
    table.iter().find(|(known, _)| match known.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *known,
    })
}

/// Collects the tools that are left out, by names for the answer's header: a tool of a known kind by its kind,
/// once; any other by its path, since nothing that a client makes up may get into a header.
pub struct LeftOutTools<'a> {
    list: &'a mut Vec<LeftOut>,
    /// The number of entries of `list` that are no tools.
    others: usize,
    /// The kinds that have been added.
    named: Vec<&'static str>,
}

impl LeftOutTools<'_> {
    /// Creates a collector that adds to `list`.
    pub fn new(list: &mut Vec<LeftOut>) -> LeftOutTools<'_> {
        LeftOutTools { others: list.len(), list, named: Vec::new() }
    }

    /// Adds the tool at `path`; `known` is the name of its kind's row in a table, if it has one.
    pub fn add(&mut self, known: Option<&'static str>, path: &str, standing: Standing) {
        let place = match known {
            Some(kind) if self.named.contains(&kind) => return,
            Some(kind) => {
                self.named.push(kind);
                format!("tools.{}", kind.trim_end_matches(['*', '_']))
            }
            None => path.to_owned(),
        };
        self.list.push(LeftOut { place, standing });
    }

    /// Adds a field that asks for such a tool.
    pub fn add_field(&mut self, name: &str) {
        self.list.push(LeftOut { place: name.to_owned(), standing: Standing::Request });
    }

    /// True if no tool has been left out.
    pub fn is_empty(&self) -> bool {
        self.list.len() == self.others
    }
}

/// One list of a dialect, for the documentation: what it holds, and the fate of each kind, in its table's
/// order.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What the kinds are, such as `parts of messages`.
    pub what: &'static str,
    /// The kinds.
    pub kinds: Vec<(&'static str, Fate)>,
}

impl Listed {
    /// Lists the kinds of a table.
    pub fn of<R: Reading>(what: &'static str, table: Table<R>) -> Listed {
        Listed { what, kinds: table.iter().map(|(name, how)| (*name, how.fate())).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_its_name_or_by_its_beginning() {
        const TABLE: Table<u8> = &[("bash_2024", 1), ("bash_*", 2), ("bash", 3)];
        let found = |name| find(TABLE, name).map(|row| row.1);
        assert_eq!(
            ["bash_2024", "bash_2030", "bash", "bas"].map(found),
            [Some(1), Some(2), Some(3), None]
        );
    }
}
