//! Events in other forms than the known one: what LangFast may send some day.

use super::event::{Chunk, Content, Event, quoted};

/// How the events of a run differ from the known form.
#[derive(Debug, Clone, Default)]
pub struct Variant {
    /// The name of all events.
    pub event: Option<String>,
    /// The name of the text.
    pub field: Option<String>,
    /// The name of the job's id, or `argument`.
    pub id: Option<String>,
    pub wrap: Wrap,
    /// Whether each event has only what is new of the text.
    pub pieces: bool,
    pub last: LastText,
    /// Whether events want to be acknowledged.
    pub ack: bool,
    pub usage: Option<UsageForm>,
}

/// What the payload is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wrap {
    #[default]
    Nothing,
    /// `{"data":{…}}`
    Data,
    /// The id beside `"payload":{…}`.
    Payload,
    /// A chunk as OpenAI's: `{"id":…,"choices":[{"delta":{…},"finish_reason":…}]}`, without a status.
    Choices,
    /// A list of an event that says nothing, and this one.
    List,
}

/// The text of the last event, where all others have pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LastText {
    #[default]
    Whole,
    Piece,
    Nothing,
}

/// How the last event tells of tokens: 1000 of the prompt, 600 of them cached, and 500 of the answer, 300
/// of them of reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageForm {
    /// As OpenAI's chat completions.
    Chat,
    /// As OpenAI's responses, in an object in an object.
    Responses,
    /// In camel case.
    Camel,
    /// Numbers that are none of tokens.
    Absurd,
}

impl Wrap {
    pub const NAMES: &[(&str, Self)] = &[
        ("none", Self::Nothing),
        ("data", Self::Data),
        ("payload", Self::Payload),
        ("choices", Self::Choices),
        ("list", Self::List),
    ];
}

impl LastText {
    pub const NAMES: &[(&str, Self)] =
        &[("whole", Self::Whole), ("piece", Self::Piece), ("none", Self::Nothing)];
}

impl UsageForm {
    pub const NAMES: &[(&str, Self)] = &[
        ("chat", Self::Chat),
        ("responses", Self::Responses),
        ("camel", Self::Camel),
        ("absurd", Self::Absurd),
    ];

    fn json(self) -> &'static str {
        match self {
            Self::Chat => {
                r#""usage":{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500,"prompt_tokens_details":{"cached_tokens":600},"completion_tokens_details":{"reasoning_tokens":300}}"#
            }
            Self::Responses => {
                r#""response":{"usage":{"input_tokens":1000,"output_tokens":500,"total_tokens":1500,"input_tokens_details":{"cached_tokens":600},"output_tokens_details":{"reasoning_tokens":300}}}"#
            }
            Self::Camel => {
                r#""meta":{"tokenUsage":{"promptTokens":1000,"completionTokens":500,"cachedTokens":600,"reasoningTokens":300}}"#
            }
            Self::Absurd => {
                r#""usage":{"prompt_tokens":-5,"completion_tokens":99999999999999999999,"total_tokens":"many"}"#
            }
        }
    }
}

impl Variant {
    /// An event in this form. The last one tells of tokens too.
    pub fn event(&self, name: &'static str, chunk: &Chunk<'_>, is_last: bool) -> Event {
        let usage = self.usage.filter(|_| is_last).map(UsageForm::json);
        let name = self.event.as_deref().unwrap_or(name);
        Event::new(name, |json| {
            if self.is_as_known() && usage.is_none() {
                return chunk.write(json);
            }
            if self.id.as_deref() == Some("argument") {
                json.push_str(&quoted(chunk.execution_id));
                json.push(',');
            }
            json.push_str(&self.payload(chunk, usage));
        })
    }

    fn is_as_known(&self) -> bool {
        self.field.is_none() && self.id.is_none() && self.wrap == Wrap::Nothing
    }

    fn payload(&self, chunk: &Chunk<'_>, usage: Option<&str>) -> String {
        let id = match self.id.as_deref() {
            Some("argument") => "\"kind\":\"chunk\"".to_owned(),
            name => {
                format!("{}:{}", quoted(name.unwrap_or("executionId")), quoted(chunk.execution_id))
            }
        };
        let field = quoted(self.field.as_deref().unwrap_or("content"));
        let text = match chunk.content {
            Content::Escaped(text) => format!(",{field}:\"{text}\""),
            Content::Null => format!(",{field}:null"),
            Content::Missing => String::new(),
        };
        let finish = chunk.finish_reason.map_or("null".to_owned(), quoted);
        let end = format!(",\"status\":{},\"finish_reason\":{finish}", quoted(chunk.status));
        let usage = usage.map_or(String::new(), |usage| format!(",{usage}"));
        match self.wrap {
            Wrap::Nothing => format!("{{{id}{end}{text}{usage}}}"),
            Wrap::Data => format!("{{\"v\":1,\"data\":{{{id}{end}{text}{usage}}}}}"),
            Wrap::Payload => format!("{{{id},\"payload\":{{\"v\":1{end}{text}}}{usage}}}"),
            Wrap::List => format!("[{{{id}}},{{{id}{end}{text}{usage}}}]"),
            Wrap::Choices => format!(
                "{{{id},\"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\"{text}}},\"finish_reason\":{finish}}}]{usage}}}"
            ),
        }
    }
}
