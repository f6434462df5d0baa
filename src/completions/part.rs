//! The parts that a choice's text is split into, and how they add up.

use crate::chat::ToolCall;
use crate::dialects::Choice;

/// A part of a choice. Calls follow all text, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text, never empty.
    Text(String),
    /// A call begins; its arguments follow.
    CallBegin(ToolCall),
    /// A piece of the call's arguments, never empty.
    Arguments(String),
    /// The end of the call: its arguments are complete, or nothing more of them comes.
    CallEnd,
}

/// Adds a part to a whole choice.
pub fn add_part(choice: &mut Choice, part: Part) {
    match part {
        Part::Text(text) => choice.text.push_str(&text),
        Part::CallBegin(call) => choice.calls.push(call),
        Part::Arguments(piece) => {
            if let Some(call) = choice.calls.last_mut() {
                call.arguments.push_str(&piece);
            }
        }
        Part::CallEnd => {}
    }
}

/// Joins neighbouring pieces of text, and of arguments.
pub fn joined(parts: Vec<Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts {
        match (joined.last_mut(), &part) {
            (Some(Part::Text(text)), Part::Text(more))
            | (Some(Part::Arguments(text)), Part::Arguments(more)) => text.push_str(more),
            _ => joined.push(part),
        }
    }
    joined
}

/// The rest of `now` behind the parts `told`, which have been emitted; `None` if `now` does not begin
/// with them, white space at the end of a text aside.
pub fn behind(told: Vec<Part>, now: Vec<Part>) -> Option<Vec<Part>> {
    let mut now = now.into_iter().peekable();
    // The missing end of the last emitted part.
    let mut more = None;
    for part in told {
        if more.is_some() {
            return None;
        }
        let is_nothing = matches!(&part, Part::Text(told) if told.trim_end().is_empty());
        if is_nothing && !matches!(now.peek(), Some(Part::Text(_))) {
            continue;
        }
        more = match (part, now.next()?) {
            (Part::Text(told), Part::Text(now)) => match now.strip_prefix(&told) {
                Some("") => None,
                Some(more) => Some(Part::Text(more.to_owned())),
                None if told.trim_end() == now.trim_end() => None,
                None => return None,
            },
            (Part::Arguments(told), Part::Arguments(now)) => match now.strip_prefix(&told)? {
                "" => None,
                more => Some(Part::Arguments(more.to_owned())),
            },
            (Part::CallBegin(told), Part::CallBegin(now)) if told.name == now.name => None,
            (Part::CallEnd, Part::CallEnd) => None,
            _ => return None,
        };
    }
    Some(more.into_iter().chain(now).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::FinishReason;
    use crate::dialects::Ending;

    #[test]
    fn parts_add_up_to_a_choice() {
        let ending = Ending { reason: FinishReason::Stop, stop: None };
        let mut choice = Choice { text: String::new(), calls: Vec::new(), ending };
        let call = |name: &str, arguments: &str| ToolCall {
            id: format!("call_{name}"),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        let piece = |piece: &str| Part::Arguments(piece.to_owned());
        let parts = [
            Part::Text("a".to_owned()),
            Part::Text("b".to_owned()),
            Part::CallBegin(call("weather", "")),
            piece("{"),
            piece("}"),
            Part::CallEnd,
            Part::CallBegin(call("time", "")),
            Part::CallEnd,
        ];
        parts.into_iter().for_each(|part| add_part(&mut choice, part));
        assert_eq!(choice.text, "ab");
        assert_eq!(choice.calls, [call("weather", "{}"), call("time", "")]);
    }
}
