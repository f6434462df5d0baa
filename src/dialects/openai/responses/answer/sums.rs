//! What clients add up from a stream of events is the whole response, whatever the model does.

use proptest::prelude::*;
use serde_json::json;

use super::tests::answer;
use super::*;
use crate::dialects::stories::{Told, any_story};

/// Removes from a response what differs each time.
fn anonymous(mut response: Value) -> Value {
    response["completed_at"].take();
    for item in response["output"].as_array_mut().unwrap() {
        assert!(!item["id"].take().is_null());
    }
    response
}

/// The text, arguments or input that the deltas of each item add up to.
fn added_up(events: &[Value]) -> Vec<String> {
    let mut items = Vec::<String>::new();
    for event in events {
        let kind = event["type"].as_str().unwrap();
        if kind == "response.output_item.added" {
            assert_eq!(event["output_index"], items.len());
            items.push(String::new());
        }
        if let Some(delta) = event["delta"].as_str() {
            assert_eq!(event["output_index"], items.len() - 1, "one item after the other");
            items.last_mut().unwrap().push_str(delta);
        }
    }
    items
}

proptest! {
    #[test]
    fn what_is_streamed_adds_up_to_the_whole_response(story in any_story(1, true)) {
        let event = |told: Told| match told {
            Told::KeepAlive => None,
            Told::Event(name, data) => {
                let data: Value = serde_json::from_str(&data).expect("JSON");
                assert_eq!(Some(data["type"].as_str().unwrap()), name.as_deref());
                Some(data)
            }
        };
        let told = story.told(&mut answer());
        let events: Vec<Value> = told.into_iter().filter_map(event).collect();
        for (at, event) in events.iter().enumerate() {
            prop_assert_eq!(&event["sequence_number"], &json!(at));
        }
        let ends = events.iter().filter(|event| {
            event["response"]["status"].as_str().is_some_and(|status| status != "in_progress")
        });
        prop_assert_eq!(ends.count(), 1);
        let last = events.last().unwrap();
        let Some(usage) = story.usage else {
            prop_assert_eq!(&last["type"], &json!("response.failed"));
            prop_assert_eq!(&events[events.len() - 2]["type"], &json!("error"));
            return Ok(());
        };
        let whole = answer().whole(&story.whole(), &usage);
        let whole: Value = serde_json::from_str(&whole).unwrap();
        let content = |item: &Value| {
            let text = item.pointer("/content/0/text");
            let text = text.or(item.get("arguments")).or(item.get("input"));
            text.and_then(Value::as_str).unwrap().to_owned()
        };
        let contents: Vec<String> =
            whole["output"].as_array().unwrap().iter().map(content).collect();
        prop_assert_eq!(added_up(&events), contents);
        prop_assert_eq!(anonymous(last["response"].clone()), anonymous(whole));
    }
}
