//! A run whose events the test sends itself, one by one. Needs the simulator's literal socket.
#![allow(dead_code, reason = "each test file uses a part")]

use serde_json::{Value, json};

use crate::simulator::Simulator;

/// The message that starts such a run: by itself it says nothing for as long as any test takes.
pub const SILENT: &str = "/sim first=600000";

/// One run, named in its events by the id that the gateway gave it.
pub struct Stepped<'a> {
    simulator: &'a Simulator,
    run_id: String,
}

impl Stepped<'_> {
    /// The run that was started as the `number`th, from 1; waits for it.
    pub fn nth(simulator: &Simulator, number: usize) -> Stepped<'_> {
        simulator.wait_until(|stats| stats.runs >= number);
        let run_id = simulator.runs()[number - 1]["run_id"].as_str().unwrap().to_owned();
        Stepped { simulator, run_id }
    }

    /// The only run.
    pub fn only(simulator: &Simulator) -> Stepped<'_> {
        Stepped::nth(simulator, 1)
    }

    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Sends an event with the text so far.
    pub fn says(&self, text: &str) {
        self.emits(json!({"status": "in_progress", "finish_reason": null, "content": text}));
    }

    /// Sends the last event, with the whole text.
    pub fn ends(&self, text: &str) {
        self.emits(json!({"status": "completed", "finish_reason": "stop", "content": text}));
    }

    /// Sends an event with these fields.
    pub fn emits(&self, fields: Value) {
        self.emits_as("execution:chunk", fields);
    }

    /// Sends an event of this name with these fields.
    pub fn emits_as(&self, name: &str, mut fields: Value) {
        fields["runId"] = json!(self.run_id);
        self.simulator.emit_raw(&format!("42{}", json!([name, fields])));
    }
}
