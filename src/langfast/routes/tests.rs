use super::*;
use crate::langfast::socketio::{self, EnginePacket, SocketPacket};
use serde_json::{Value, json};

fn send(routes: &mut Routes, payload: Value) {
    let packet = payload.to_string();
    if !routes.grow(packet.as_bytes()) {
        routes.dispatch(&packet, &Notice::read("execution:chunk", &packet).unwrap());
    }
}

fn started(name: &str) -> Started {
    Started { job_id: format!("job of {name}"), run_id: format!("run of {name}") }
}

fn claim(routes: &mut Routes, name: &str) -> (RunKey, Receiver<RunEvent>) {
    routes.begin_start();
    routes.claim(started(name), 0, Listener::default())
}

fn text(events: &Receiver<RunEvent>) -> String {
    let texts = events.try_iter().filter_map(|event| match event {
        RunEvent::Text(text) => Some(text),
        _ => None,
    });
    texts.collect()
}

fn has_failed(events: &Receiver<RunEvent>) -> bool {
    events.try_iter().any(|event| matches!(event, RunEvent::Failed(_)))
}

fn early_bytes(routes: &Routes) -> usize {
    routes.early.values().sum()
}

#[test]
fn nothing_is_kept_of_a_run_that_is_over_while_others_are_being_started() {
    let mut routes = Routes::new(1 << 20);
    let (key, events) = claim(&mut routes, "a");
    send(&mut routes, json!({"executionId": "job of a", "content": "one"}));
    assert_eq!(text(&events), "one");
    routes.remove(key);
    routes.begin_start();
    for ids in [
        json!({"executionId": "job of a"}),
        json!({"runId": "run of a"}),
        json!({"executionId": "a third id", "runId": "run of a"}),
    ] {
        let mut payload = ids.clone();
        payload["content"] = json!("one two");
        send(&mut routes, payload);
        assert!(routes.early.is_empty() && routes.runs.is_empty(), "{ids}");
    }
    send(&mut routes, json!({"executionId": "job of b", "content": "b"}));
    assert_eq!(text(&routes.claim(started("b"), 0, Listener::default()).1), "b");
}

#[test]
fn who_does_not_want_each_text_is_rung_for_the_first_one_and_for_the_end() {
    let rings = |wants_each| {
        let mut routes = Routes::new(1 << 20);
        routes.begin_start();
        let listener = Listener { bell: Arc::default(), wants_each };
        let (_, events) = routes.claim(started("a"), 0, listener);
        let mut due = Vec::new();
        let rings = ["in_progress"; 4].into_iter().chain(["completed"]).enumerate();
        let rings = rings.map(|(count, status)| {
            let text = "a word ".repeat(count);
            send(
                &mut routes,
                json!({"executionId": "job of a", "status": status, "content": text}),
            );
            routes.take_due(&mut due);
            due.drain(..).count()
        });
        let rings: Vec<usize> = rings.collect();
        assert_eq!(text(&events), "a word ".repeat(4), "all have come");
        rings
    };
    assert_eq!(rings(false), [0, 1, 0, 0, 1]);
    assert!(rings(true).iter().all(|rings| *rings > 0));
}

#[test]
fn early_events_take_no_more_memory_than_they_may_and_the_latest_are_kept() {
    let mut routes = Routes::new(16 << 20);
    routes.begin_start();
    let mebibyte = "x".repeat(1 << 20);
    for number in 0..24 {
        send(&mut routes, json!({"executionId": format!("foreign {number}"), "content": mebibyte}));
        assert!(early_bytes(&routes) <= MOST_EARLY_BYTES);
    }
    // This run alone takes more than all may together.
    let long = "x".repeat(12 << 20);
    send(&mut routes, json!({"executionId": "job of a", "content": long}));
    assert_eq!(routes.early.len(), 1);
    assert_eq!(text(&routes.claim(started("a"), 0, Listener::default()).1).len(), long.len());
    assert!(routes.early.is_empty());
}

#[test]
fn early_events_without_text_are_not_gathered() {
    let mut routes = Routes::new(1 << 20);
    routes.begin_start();
    for _ in 0..1_000 {
        send(&mut routes, json!({"executionId": "job of a", "content": null}));
    }
    for end in 1..=1_000 {
        send(&mut routes, json!({"executionId": "job of a", "content": "y".repeat(end)}));
    }
    assert!(early_bytes(&routes) < 10_000, "{}", early_bytes(&routes));
    let (_, events) = routes.claim(started("a"), 0, Listener::default());
    assert!(events.len() <= 2);
    assert_eq!(text(&events).len(), 1_000);
}

/// Each event would be looked at again with each further one.
#[test]
fn early_events_of_an_end_with_its_tokens_are_not_gathered() {
    let mut routes = Routes::new(1 << 20);
    routes.begin_start();
    for tokens in 1..=10_000 {
        let usage = json!({"prompt_tokens": tokens});
        let end = json!({"executionId": "job of a", "finish_reason": "stop", "usage": usage});
        send(&mut routes, end);
        let text = "y".repeat(1 + tokens / 50);
        send(&mut routes, json!({"executionId": "job of a", "content": text}));
    }
    assert!(early_bytes(&routes) < 10_000, "{}", early_bytes(&routes));
    let (_, events) = routes.claim(started("a"), 0, Listener::default());
    let all: Vec<RunEvent> = events.try_iter().collect();
    let usages = all.iter().filter_map(|event| match event {
        RunEvent::Usage(usage) => usage.prompt_tokens,
        _ => None,
    });
    assert_eq!(usages.collect::<Vec<_>>(), [10_000]);
    assert!(all.len() <= 3, "{}", all.len());
}

#[test]
fn early_events_under_either_name_lose_no_text_and_are_never_an_end_too_soon() {
    for (job, run, expected) in [("one", "one two", "one two"), ("one two", "on", "one two")] {
        let mut routes = Routes::new(1 << 20);
        routes.begin_start();
        send(&mut routes, json!({"executionId": "job of a", "content": job}));
        let end = json!({"runId": "run of a", "content": run, "status": "completed"});
        send(&mut routes, end);
        let (key, events) = routes.claim(started("a"), 0, Listener::default());
        let all: Vec<RunEvent> = events.try_iter().collect();
        assert_eq!(all[0], RunEvent::Text(expected.to_owned()));
        assert_eq!(all.len() > 1, run == expected, "an end: {all:?}");
        send(&mut routes, json!({"runId": "run of a", "content": "one two three"}));
        routes.remove(key);
        assert!(routes.runs.is_empty() && routes.by_id.is_empty() && routes.early.is_empty());
    }
}

/// Whether an event as the runner takes it is passed on unparsed.
fn grows(routes: &mut Routes, frame: &str) -> bool {
    let body = socketio::event_frame(frame.as_bytes()).unwrap().body;
    let grown = routes.grow(body);
    if !grown {
        let Ok(EnginePacket::Message(SocketPacket::Event { name, arguments })) =
            socketio::parse(frame)
        else {
            panic!("{frame}")
        };
        for notice in Notice::all(&name, arguments) {
            routes.dispatch(std::str::from_utf8(body).unwrap(), &notice);
        }
    }
    grown
}

#[test]
fn ack_ids_and_offsets_that_change_keep_no_text_from_growing_unparsed() {
    let text = |number: usize| "a word of sixteen bytes ".repeat(number);
    for layout in [
        r#"42ACK["c",{"executionId":"job of a","content":"TEXT"}OFFSET]"#,
        r#"42ACK["c",{"content":"TEXT","data":{"job_id":"job of a"}}OFFSET]"#,
        r#"42ACK["c",{"choices":[{"delta":{"content":"TEXT"}}],"id":"job of a"}OFFSET]"#,
    ] {
        for (ack, offset) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut routes = Routes::new(1 << 20);
            let (_, events) = claim(&mut routes, "a");
            let grown = (1..=20).filter(|number| {
                let id = if ack { number.to_string() } else { String::new() };
                let seed = if number % 3 == 0 { ".1" } else { "" };
                let last = format!(",\"P{number:x}{seed}\"");
                let frame = layout.replace("TEXT", &text(*number)).replace("ACK", &id);
                let frame = frame.replace("OFFSET", if offset { &last } else { "" });
                grows(&mut routes, &frame)
            });
            assert_eq!(grown.count(), 18, "{layout} {ack} {offset}");
            assert_eq!(super::tests::text(&events), text(20));
        }
    }
}

#[test]
fn what_changes_behind_a_text_without_a_meaning_keeps_it_not_from_growing_unparsed() {
    let text = |number: usize| "a word of sixteen bytes ".repeat(number);
    for layout in [
        r#"42["c",{"executionId":"job of a","content":"TEXT","at":1795723448653,"n":NUMBER}]"#,
        r#"42["c",{"executionId":"job of a","content":"TEXT","at":"2026-11-26T00:00:NUMBERZ"},"Po"]"#,
        r#"42["c",{"runId":"run of a","data":{"text":"TEXT"},"id":"event NUMBER"}]"#,
    ] {
        let mut routes = Routes::new(1 << 20);
        let (_, events) = claim(&mut routes, "a");
        let grown = (1..=20).filter(|number| {
            let frame = layout.replace("TEXT", &text(*number));
            grows(&mut routes, &frame.replace("NUMBER", &number.to_string()))
        });
        assert_eq!(grown.count(), 18, "{layout}");
        assert_eq!(super::tests::text(&events), text(20));
    }
}

#[test]
fn what_changes_behind_a_text_and_has_a_meaning_is_heard() {
    let frame = |number: usize, behind: &str| {
        let text = "a word of sixteen bytes ".repeat(number);
        format!(r#"42["c",{{"runId":"run of a","content":"{text}"{behind}}}]"#)
    };
    for (behind, is_heard) in [
        (r#","error":"boom""#, (|event| matches!(event, RunEvent::Failed(_))) as fn(&_) -> bool),
        (r#","status":"completed""#, |event| matches!(event, RunEvent::Finished { .. })),
        (r#","finish_reason":"stop""#, |event| matches!(event, RunEvent::Ending { .. })),
    ] {
        let mut routes = Routes::new(1 << 20);
        let (_, events) = claim(&mut routes, "a");
        for number in 1..5 {
            grows(&mut routes, &frame(number, ""));
        }
        assert!(!grows(&mut routes, &frame(5, behind)), "{behind}");
        assert!(events.try_iter().any(|event| is_heard(&event)), "{behind}");
    }
    // The place at which runs are named may hold the id of another one, behind the same text.
    let mut routes = Routes::new(1 << 20);
    let (_, of_a) = claim(&mut routes, "a");
    let (_, of_b) = claim(&mut routes, "b");
    let frame = |number: usize, name: &str| {
        let text = "a word of sixteen bytes ".repeat(number);
        format!(r#"42["c",{{"content":"{text}","runId":"run of {name}","id":"run of a"}}]"#)
    };
    for number in 1..5 {
        grows(&mut routes, &frame(number, "a"));
    }
    grows(&mut routes, &frame(6, "b"));
    grows(&mut routes, &frame(5, "a"));
    assert_eq!((text(&of_a).len(), text(&of_b).len()), (5 * 24, 6 * 24));
}

#[test]
fn an_id_without_a_name_counts_if_it_is_a_runs_or_looks_like_one() {
    let uuid = "7b0c3c1e-6f0a-4a53-9a55-0a2f6d0c9b11";
    let mut routes = Routes::new(1 << 20);
    let (_, events) = claim(&mut routes, "a");
    send(&mut routes, json!({"id": "job of a", "text": "one"}));
    send(&mut routes, json!({"id": "job of b", "text": "no"}));
    send(&mut routes, json!({"id": uuid, "text": "no"}));
    assert_eq!((text(&events).as_str(), routes.early.len()), ("one", 0));
    routes.begin_start();
    send(&mut routes, json!({"id": "msg_1", "text": "no"}));
    send(&mut routes, json!({"id": uuid}));
    assert_eq!(routes.early.len(), 0);
    send(&mut routes, json!({"id": uuid, "text": "early"}));
    let started = Started { job_id: uuid.to_owned(), run_id: "run".to_owned() };
    assert_eq!(text(&routes.claim(started, 0, Listener::default()).1), "early");
}

#[test]
fn a_run_that_was_started_before_events_were_missed_may_lack_some() {
    let mut routes = Routes::new(1 << 20);
    routes.begin_start();
    let gaps = routes.gaps();
    routes.note_gap();
    let (_, events) = routes.claim(started("a"), gaps, Listener::default());
    for fields in [json!({"delta": "two "}), json!({"delta": "three", "status": "done"})] {
        let mut payload = fields.clone();
        payload["jobId"] = json!("job of a");
        send(&mut routes, payload);
    }
    assert!(has_failed(&events));
}

#[test]
fn two_runs_of_the_same_id_do_not_disturb_what_is_kept() {
    let mut routes = Routes::new(1 << 20);
    let (first, _) = claim(&mut routes, "a");
    let (second, events) = claim(&mut routes, "a");
    routes.remove(first);
    send(&mut routes, json!({"executionId": "job of a", "content": "one"}));
    assert_eq!(text(&events), "one");
    routes.remove(second);
    assert!(routes.by_id.is_empty() && routes.runs.is_empty());
}

#[test]
fn a_failure_that_names_no_run_ends_only_a_run_that_alone_can_be_meant() {
    let failure = || json!({"status": "failed", "error": "boom"});
    let fails = |prepare: &dyn Fn(&mut Routes)| {
        let mut routes = Routes::new(1 << 20);
        let (_, events) = claim(&mut routes, "a");
        prepare(&mut routes);
        send(&mut routes, failure());
        has_failed(&events)
    };
    assert!(fails(&|_| {}));
    assert!(!fails(&|routes| send(routes, json!({"executionId": "job of a", "content": "x"}))));
    assert!(!fails(&|routes| send(routes, json!({"executionId": "job of a"}))));
    assert!(!fails(&|routes| drop(claim(routes, "b"))));
    assert!(!fails(&Routes::begin_start));
    let foreign = |routes: &mut Routes| send(routes, json!({"executionId": "x", "content": "x"}));
    assert!(!fails(&foreign));
    assert!(!fails(&|routes| {
        routes.begin_start();
        foreign(routes);
        routes.end_start();
    }));
    assert!(fails(&|routes| {
        let (key, _) = claim(routes, "b");
        routes.remove(key);
        send(routes, json!({"executionId": "job of b", "content": "x"}));
    }));
}
