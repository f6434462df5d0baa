//! Which tool a name means that a model has written.

use crate::chat::Tool;

/// Longest name that is passed on, in bytes.
const LONGEST: usize = 128;
/// What models put before the names of tools, from the forms of calling that they have learned.
const NAMESPACES: [&str; 5] = ["functions", "function", "tools", "tool", "default_api"];
const BETWEEN: [char; 3] = ['.', ':', '/'];

/// Finds the tool that `written` names: as it is, or else the only one that it fits without regard to case,
/// hyphens, underscores and prefixes.
pub fn find(tools: &[Tool], written: &str) -> Option<usize> {
    let written = bare(written);
    if !written.chars().all(is_allowed) {
        return None;
    }
    let exact = |name: &str| tools.iter().position(|tool| tool.name == name);
    exact(written).or_else(|| only(tools, |name| plain(name) == plain(written))).or_else(|| {
        let (short, wanted) = (last(written), plain(last(written)));
        let is_cut = short.len() < written.len();
        only(tools, |name| plain(last(name)) == wanted && (is_cut || last(name).len() < name.len()))
    })
}

fn only(tools: &[Tool], fits: impl Fn(&str) -> bool) -> Option<usize> {
    let mut found = tools.iter().enumerate().filter(|(_, tool)| fits(&tool.name));
    let (at, _) = found.next()?;
    found.next().is_none().then_some(at)
}

/// A name without white space and quotes, a namespace before it, and what makes a call of it behind it.
fn bare(written: &str) -> &str {
    let is_around = |c: char| c.is_whitespace() || "`\"'*".contains(c);
    let mut name = written.trim_matches(is_around);
    name = name.strip_suffix("()").unwrap_or(name).trim_end_matches(':');
    for namespace in NAMESPACES {
        let rest = name.strip_prefix(namespace).and_then(|rest| rest.strip_prefix(BETWEEN));
        if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
            name = rest;
        }
    }
    match name.rsplit_once(':') {
        Some((before, number)) if number.chars().all(|c| c.is_ascii_digit()) => before,
        _ => name,
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.:/ ".contains(c)
}

/// The part of a name behind its prefixes, such as `mcp__server__`.
fn last(name: &str) -> &str {
    let name = name.rsplit(BETWEEN).next().unwrap_or(name);
    name.rsplit("__").next().unwrap_or(name)
}

/// A name of no tool as it is passed on, for the client to say that there is none; `None` if it cannot be
/// one, or stands for any, as `NAME` does in the instructions.
pub fn unknown(written: &str) -> Option<String> {
    let name = bare(written);
    let is_name = name.len() <= LONGEST
        && name.chars().all(is_allowed)
        && name.contains(|c: char| c.is_ascii_lowercase());
    is_name.then(|| name.replace(BETWEEN, "_").replace(' ', "_"))
}

/// A name without case, hyphens and underscores.
pub fn plain(name: &str) -> String {
    let kept = name.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_the_only_tool_that_it_fits() {
        let tool = |name: &str| Tool { name: name.to_owned(), ..Tool::default() };
        let tools = ["read_file", "Read", "mcp__a__list", "mcp__b__list", "mcp__b__get"].map(tool);
        let found = |written: &str| find(&tools, written).map(|at| tools[at].name.as_str());
        for (written, expected) in [
            ("read_file", Some("read_file")),
            ("functions.readFile", Some("read_file")),
            ("functions.read_file:0", Some("read_file")),
            ("`read_file()`", Some("read_file")),
            ("read", Some("Read")),
            ("get", Some("mcp__b__get")),
            ("b.get", Some("mcp__b__get")),
            ("list", None),
            ("mcp__a__list", Some("mcp__a__list")),
            ("write", None),
        ] {
            assert_eq!(found(written), expected, "{written}");
        }
        assert_eq!(unknown("functions.fs.open").as_deref(), Some("fs_open"));
        for written in ["NAME", "TOOL_NAME", "…", "", "a<b", "..."] {
            assert_eq!(unknown(written), None, "{written}");
        }
    }
}
