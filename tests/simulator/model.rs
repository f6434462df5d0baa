//! A model that calls tools, by a script: what it says and calls is set beforehand, turn by turn; how
//! to write a call it reads in its instructions, as a real model would.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the model does in one run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// What it says before it calls. `$NONCE` stands for the nonce of the call's markers, for calls
    /// that are written wrongly.
    text: String,
    calls: Vec<Call>,
    /// Words of a `/sim` line, such as `finish=length events=3`.
    sim: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    name: String,
    /// A string is written as it is, anything else as JSON.
    arguments: Value,
}

impl Call {
    fn arguments(&self) -> String {
        match &self.arguments {
            Value::String(text) => text.clone(),
            json => json.to_string(),
        }
    }
}

impl Turn {
    /// The `/sim` line that has a run answer with this turn. `told` are the texts of all messages,
    /// `format` the run's `response_format`.
    pub fn line(&self, told: &[&str], format: Option<&Value>) -> Result<String, String> {
        let text = self.answer(told, format)?;
        Ok(format!("/sim {} say={}", self.sim, utf8_percent_encode(&text, NON_ALPHANUMERIC)))
    }

    fn answer(&self, told: &[&str], format: Option<&Value>) -> Result<String, String> {
        if let Some(schema) = format.and_then(|format| format.pointer("/json_schema/schema")) {
            return Ok(self.json(schema));
        }
        let nonce = told.iter().find_map(|text| nonce_in(text));
        if self.calls.is_empty() {
            return Ok(self.text.replace("$NONCE", nonce.unwrap_or_default()));
        }
        let nonce = nonce.ok_or("the script calls tools, and the messages do not say how")?;
        let call = |call: &Call| {
            format!("<call-{nonce} name=\"{}\">{}</call-{nonce}>", call.name, call.arguments())
        };
        let text = Some(self.text.replace("$NONCE", nonce)).filter(|text| !text.is_empty());
        Ok(text.into_iter().chain(self.calls.iter().map(call)).collect::<Vec<_>>().join("\n"))
    }

    /// The answer where it has to be JSON of a schema: a list of calls, or the arguments of one. A
    /// turn without calls keeps to its text.
    fn json(&self, schema: &Value) -> String {
        let Some(first) = self.calls.first() else { return self.text.clone() };
        if schema.pointer("/properties/calls").is_none() {
            return first.arguments();
        }
        let raw = |call: &Call| {
            format!("{{\"name\":{},\"arguments\":{}}}", json!(call.name), call.arguments())
        };
        let calls: Vec<String> = self.calls.iter().map(raw).collect();
        format!("{{\"calls\":[{}]}}", calls.join(","))
    }
}

/// The nonce in a text that shows a call: what stands between `<call-` and ` name=`.
fn nonce_in(text: &str) -> Option<&str> {
    let behind = text.split("<call-").skip(1);
    behind.filter_map(|rest| rest.split_once(" name=")).map(|(nonce, _)| nonce).next()
}
