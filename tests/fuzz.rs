//! Fuzzing of everything that reads what others have written: mutations of sound inputs, and whole
//! inputs from random pieces. A second each as a test; `scripts/fuzz SECONDS` runs them longer. A
//! failure prints the seed that repeats it (`FUZZ_SEED`).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::str;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use langfast2api::chat::media::{Images, newest_question, settle};
use langfast2api::chat::models::{BUILT_IN, Models, Unknown, import};
use langfast2api::chat::schema::{Judgement, Schema};
use langfast2api::chat::tools::{Piece, forced, marked};
use langfast2api::chat::{ChatRequest, Tool};
use langfast2api::dialects::anthropic;
use langfast2api::dialects::openai::{request, responses};
use langfast2api::http::body::Decoder;
use langfast2api::http::head::Scan;
use langfast2api::http::{Head, Limits};
use langfast2api::langfast::run::{Manners, Notice, Progress, RunEvent, with_object};
use langfast2api::langfast::socketio::{self, EnginePacket, SocketPacket};
use langfast2api::langfast::transcript::{Transcript, unescape};
use langfast2api::stored::{Owner, Store};
use serde_json::{Value, json};

/// Runs `target` on one random input after another for the time given.
fn fuzz(target: impl Fn(&mut Rng)) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(1.0));
    let fixed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    let mut runs = 0u64;
    loop {
        let seed = fixed.unwrap_or_else(|| fastrand::u64(..));
        let result = catch_unwind(AssertUnwindSafe(|| target(&mut Rng::with_seed(seed))));
        if let Err(panic) = result {
            eprintln!("repeat it with FUZZ_SEED={seed}");
            resume_unwind(panic);
        }
        runs += 1;
        if fixed.is_some() || Instant::now() >= until {
            break;
        }
    }
    eprintln!("{runs} runs");
}

/// The last character boundary at or before this byte.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap()
}

/// A sound input with some damage done to it.
fn mutated(rng: &mut Rng, seeds: &[&[u8]], words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = seeds[rng.usize(..seeds.len())].to_vec();
    for _ in 0..rng.usize(0..6) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(0..6) {
            0 if at < bytes.len() => bytes[at] = rng.u8(..),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            3 => {
                let word = words[rng.usize(..words.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            4 => {
                let other = seeds[rng.usize(..seeds.len())];
                bytes.splice(at..at, other[rng.usize(..=other.len())..].iter().copied());
            }
            _ => {
                let byte = rng.u8(..);
                bytes.splice(at..at, std::iter::repeat_n(byte, rng.usize(1..40)));
            }
        }
    }
    bytes
}

const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"POST http://a/b?c HTTP/1.0\r\nExpect: 100-continue\r\nConnection: keep-alive\r\n\r\n",
];
const HTTP_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b": ",
    b"Content-Length: 9\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"ffffffffffffffff\r\n",
    b";x=y",
    b"HTTP/2.0",
    b"PRI * ",
    b" ",
    b"\t",
    b"\xff",
];

/// What the front makes of a connection's bytes that arrive in these pieces: each head and body.
fn read_requests(pieces: &[&[u8]]) -> Vec<Result<(Head, Vec<u8>), String>> {
    let limits = Limits { head_bytes: 200, headers: 4, body_bytes: 100, ..Limits::default() };
    let (mut requests, mut buffer) = (Vec::new(), Vec::new());
    let mut scan = Scan::default();
    let mut reading: Option<(Head, Decoder, Vec<u8>)> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            if let Some((_, decoder, body)) = &mut reading {
                match decoder.feed(&buffer, body) {
                    Ok(taken) => drop(buffer.drain(..taken)),
                    Err(error) => {
                        requests.push(Err(error.to_string()));
                        return requests;
                    }
                }
                if !decoder.is_done() {
                    break;
                }
                let (head, _, body) = reading.take().unwrap();
                requests.push(Ok((head, body)));
            }
            let end = match scan.find_end(&buffer, &limits) {
                Ok(Some(end)) => end,
                Ok(None) => break,
                Err(error) => {
                    requests.push(Err(error.to_string()));
                    return requests;
                }
            };
            let head = Head::parse(&buffer[..end], &limits);
            match head.and_then(|head| head.check_size(&limits).map(|()| head)) {
                Ok(head) => {
                    drop(buffer.drain(..end));
                    scan = Scan::default();
                    let decoder = Decoder::new(head.body, limits.body_bytes);
                    reading = Some((head, decoder, Vec::new()));
                }
                Err(error) => {
                    requests.push(Err(error.to_string()));
                    return requests;
                }
            }
        }
    }
    requests
}

#[test]
fn requests_are_read_alike_whatever_pieces_they_come_in() {
    fuzz(|rng| {
        let bytes = mutated(rng, REQUESTS, HTTP_WORDS);
        let mut cuts = [0, rng.usize(..=bytes.len()), rng.usize(..=bytes.len()), bytes.len()];
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let whole = read_requests(&[&bytes]);
        assert_eq!(read_requests(&pieces), whole, "{}", bytes.escape_ascii());
        for (head, body) in whole.into_iter().flatten() {
            assert!(body.len() <= 100 && head.target.is_ascii());
        }
    });
}

const FRAMES: &[&[u8]] = &[
    br#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1}"#,
    br#"42["execution:chunk",{"executionId":"j","status":"in_progress","content":"a\ud83d\n"}]"#,
    br#"42["execution:chunk","{\"executionId\":\"j\",\"content\":\"ab\"}"]"#,
    br#"42["execution:chunk",{"executionId":"j","status":"completed","content":"abc","error":null}]"#,
    br#"42["completion_finished",{"executionId":"j"}]"#,
    br#"4217["token",{"id":"j","choices":[{"delta":{"content":"a"},"finish_reason":null}]},"P4.0"]"#,
    br#"42["token","j",{"data":{"status":"done","delta":"ab","usage":{"prompt_tokens":1,"total_tokens":3}}}]"#,
    br#"42["token",[{"jobId":"j","output":"abc"},{"job":{"id":"j","status":"timed-out"}}]]"#,
    br#"44{"message":"no"}"#,
    b"2probe",
    b"41",
];
const JSON_WORDS: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"\\ud83d",
    b"\\u",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"1e999",
    b"-",
    b"\"error\":",
    b"\"content\":",
    b"\"delta\":",
    b"\"usage\":",
    b"\"data\":{",
    "\u{1f600}".as_bytes(),
    b"\xff",
    b"[[[[[[[[[[[[[[[[",
];

/// What a frame means for a run.
fn read(progress: &mut Progress, frame: &str) -> Vec<RunEvent> {
    let packet = socketio::parse(frame);
    let Ok(EnginePacket::Message(SocketPacket::Event { name, arguments })) = packet else {
        return Vec::new();
    };
    let body = socketio::event_frame(frame.as_bytes())
        .map_or(frame, |event| str::from_utf8(event.body).unwrap());
    let mut inside = String::new();
    let notices = Notice::all(&name, with_object(arguments, &mut inside));
    notices.iter().flat_map(|notice| progress.take(body, notice)).collect()
}

#[test]
fn a_frame_that_is_taken_unparsed_means_what_it_means_when_parsed() {
    const PIECES: &[&str] = &[
        "a",
        "é",
        "\\ud83d",
        "\\ude00",
        "\\n",
        "\\\\",
        "\\\"",
        "\u{fffd}",
        "\"",
        ",",
        "}",
        "{",
        ":",
        "]",
        "\"error\":\"e\"",
        "\"status\":\"completed\"",
    ];
    // What may follow the text, anew in each event.
    const BESIDE: &[&str] = &[
        "",
        r#","at":1795723448653"#,
        r#","at":1795723448654,"n":2"#,
        r#","at":"2026-11-26T19:00:00Z""#,
        r#","usage":{"completion_tokens":7}"#,
        r#","usage":{"completion_tokens":8}"#,
        r#","error":null"#,
        r#","error":0"#,
        r#","error":"e""#,
        r#","status":"completed""#,
        r#","finish_reason":"stop""#,
        r#","text":"other","delta":"another""#,
        r#","content":"twice""#,
        r#","x":["#,
    ];
    const LAYOUTS: [[&str; 2]; 5] = [
        [r#"42["c",{"executionId":"j","status":"in_progress","content":""#, r#""BESIDE}]"#],
        [r#"42["c",{"content":""#, r#"","executionId":"j"BESIDE}]"#],
        [r#"42["c",{"content":""#, r#"","executionId":"j","status":"completed"}]"#],
        [r#"42["c",{"executionId":"j","error":null,"content":""#, r#"","x":{"content":"y"}}]"#],
        [r#"42["c",{"data":{"text":""#, r#""BESIDE},"id":"j"BESIDE},"P1.2"]"#],
    ];
    fuzz(|rng| {
        let (mut parsing, mut growing) = (Progress::new(40), Progress::new(40));
        let mut text = String::new();
        let [before, behind] = LAYOUTS[rng.usize(..LAYOUTS.len())];
        for _ in 0..rng.usize(1..12) {
            if rng.u8(..) < 10 {
                text.truncate(boundary(&text, rng.usize(..=text.len())));
            }
            (0..rng.usize(..3)).for_each(|_| text.push_str(PIECES[rng.usize(..PIECES.len())]));
            let behind = behind.replace("BESIDE", BESIDE[rng.usize(..BESIDE.len())]);
            let frame = [before, &text, &behind].concat();
            let expected = read(&mut parsing, &frame);
            let body = socketio::event_frame(frame.as_bytes()).unwrap().body;
            let grown = growing.grow(body, |_| true).map(|event| vec![event]);
            assert_eq!(grown.unwrap_or_else(|| read(&mut growing, &frame)), expected, "{frame}");
        }
    });
}

#[test]
fn a_text_comes_out_right_in_whatever_form_it_comes() {
    const FIELDS: &[&str] = &["content", "text", "delta", "output"];
    const LAYOUTS: &[[&str; 2]] = &[
        [r#"{"jobId":"j",STATUS,"FIELD":""#, r#""}"#],
        [r#"{"data":{"FIELD":""#, r#"",STATUS},"id":"j"}"#],
        [r#""j",{"choices":[{"delta":{"FIELD":""#, r#""}}],STATUS}"#],
        [r#"[{"id":"j"},{"id":"j",STATUS,"payload":{"FIELD":""#, r#""}}]"#],
    ];
    fuzz(|rng| {
        let manners = Arc::new(Manners::default());
        // Runs before the last one may have been of other forms.
        for _ in 0..rng.usize(1..4) {
            let layout = LAYOUTS[rng.usize(..LAYOUTS.len())];
            let field = FIELDS[rng.usize(..FIELDS.len())];
            let (in_pieces, last) = (rng.bool(), rng.u8(0..3));
            let letters = "abcdefghijklmnopqrstuvwxyz";
            // Words that tell: long enough, and each begins otherwise than the one before.
            let words: Vec<String> = (0..rng.usize(8..20))
                .map(|n| format!("{}{} ", &letters[n..n + 1], rng.u32(10_000..)))
                .collect();
            let text = words.concat();
            let tail = if rng.bool() { r#","P1.2""# } else { "" };
            let frame = |content: &str, status: &str| {
                let [before, behind] =
                    layout.map(|part| part.replace("FIELD", field).replace("STATUS", status));
                format!(r#"42["token",{before}{content}{behind}{tail}]"#)
            };
            let mut frames: Vec<String> = (0..words.len())
                .map(|n| match in_pieces {
                    true => frame(&words[n], r#""status":"in_progress""#),
                    false => frame(&words[..=n].concat(), r#""status":"in_progress""#),
                })
                .collect();
            let done = r#""status":"done""#;
            match last {
                0 => frames.push(frame(&text, done)),
                1 => frames.push(frame("", done)),
                _ => {
                    frames.pop();
                    let rest = if in_pieces { words.last().unwrap() } else { &text };
                    frames.push(frame(rest, done));
                }
            }
            let mut progress = Progress::among(manners.clone(), 1 << 20);
            let (mut shown, mut ended) = (String::new(), false);
            for frame in &frames {
                let body = socketio::event_frame(frame.as_bytes()).unwrap().body;
                let grown = progress.grow(body, |_| true).map(|event| vec![event]);
                for event in grown.unwrap_or_else(|| read(&mut progress, frame)) {
                    match event {
                        RunEvent::Text(text) => shown += &text,
                        RunEvent::Finished { revised, .. } => {
                            assert!(revised.is_none(), "{frames:#?}");
                            ended = true;
                        }
                        _ => {}
                    }
                }
            }
            assert!(ended && shown == text, "{shown:?} {frames:#?}");
        }
    });
}

#[test]
fn frames_of_the_runner_never_break_anything() {
    fuzz(|rng| {
        let mut progress = Progress::new(1000);
        let mut ended = 0;
        for _ in 0..rng.usize(1..6) {
            let bytes = mutated(rng, FRAMES, JSON_WORDS);
            let Ok(frame) = std::str::from_utf8(&bytes) else { continue };
            for event in read(&mut progress, frame) {
                assert_eq!(ended, 0, "nothing comes behind the end");
                ended +=
                    usize::from(matches!(event, RunEvent::Finished { .. } | RunEvent::Failed(_)));
            }
        }
    });
}

#[test]
fn deltas_add_up_to_the_final_text_or_the_final_text_is_known() {
    const PIECES: &[&str] =
        &["a", "é", "\\ud83d", "\\ude00", "😀", "\\n", "\\\\", "\u{fffd}", "ab", " "];
    fuzz(|rng| {
        let mut transcript = Transcript::default();
        let (mut raw, mut shown) = (String::new(), String::new());
        for _ in 0..rng.usize(0..8) {
            if rng.u8(..) < 20 {
                // Revised: another beginning.
                raw = PIECES[rng.usize(..PIECES.len())].to_owned();
            }
            raw.push_str(PIECES[rng.usize(..PIECES.len())]);
            shown += &transcript.grow(raw.as_bytes(), |_| false).unwrap_or_else(|| {
                let delta = transcript.advance(raw.as_bytes(), 0..raw.len());
                transcript.may_grow();
                delta
            });
        }
        shown += &transcript.complete(raw.as_bytes(), 0..raw.len());
        assert_eq!(transcript.shown(), shown.len());
        let text = unescape(raw.as_bytes());
        match transcript.revised() {
            None => assert_eq!(shown, text, "{raw}"),
            Some(revised) => assert_eq!((revised.shown, revised.text), (shown, text), "{raw}"),
        }
    });
}

/// One of the settings for images.
fn images(rng: &mut Rng) -> Images {
    if rng.bool() { Images::Pass } else { Images::Refuse }
}

/// Whatever is read can be settled for any model, and then holds nothing but text and images.
fn check_media(chat: &mut ChatRequest) {
    for slug in ["gpt-4", "gpt-5"] {
        let question = newest_question(&chat.turns);
        let _ = settle(&mut chat.turns, slug, question);
    }
    assert!(settle(&mut chat.turns, "gpt-4", None).is_ok());
    let question = newest_question(&chat.turns);
    assert_eq!(settle(&mut chat.turns, "gpt-4", question), Ok(vec![]));
}

const BODIES: &[&[u8]] = &[
    br#"{"model":"m","messages":[{"role":"assistant","name":"n","refusal":"r","audio":{"id":"a"},"tool_calls":[{"id":"1","type":"custom","custom":{"name":"f","input":"x"}}]},{"role":"user","name":"n","content":[{"type":"odd"}]}],"tools":[{"type":"custom","custom":{"name":"f","format":{"type":"grammar","grammar":{"syntax":"lark","definition":"x"}}}},{"type":"odd"}],"functions":[{"name":"g"}],"tool_choice":{"type":"custom","custom":{"name":"f"}}}"#,
    br#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAAB","detail":"low"}},{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}},{"type":"file","file":{"file_data":"data:application/pdf;base64,JVBE"}}]}]}"#,
    br#"{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"stream":true,"n":2}"#,
    br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"stop":["x"]}"#,
    br#"{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]}]}"#,
    br#"{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"f","parameters":{},"strict":true}}],"tool_choice":"required","parallel_tool_calls":false}"#,
    br#"{"model":"m","messages":[{"role":"tool","content":"x","tool_call_id":"1"}],"temperature":1,"max_tokens":5,"response_format":{"type":"json_object"}}"#,
];

#[test]
fn bodies_are_read_or_refused() {
    fuzz(|rng| {
        let body = mutated(rng, BODIES, JSON_WORDS);
        if let Ok(mut request) = request::parse(&mut body.clone().into(), images(rng), None) {
            let chat = &mut request.chats[0];
            assert!(!chat.turns.is_empty() && (1..=8).contains(&chat.n));
            check_media(chat);
        }
    });
}

const RESPONSES: &[&[u8]] = &[
    br#"{"model":"m","input":[{"type":"additional_tools","role":"developer","tools":[{"type":"namespace","name":"n","tools":[{"type":"custom","name":"g"}]},{"type":"function","name":"f"}]},{"type":"shell_call","call_id":"1","action":{"commands":["a"]}},{"type":"shell_call_output","call_id":"1","output":[{"stdout":"a","outcome":{"type":"exit","exit_code":1}}]},{"type":"tool_search_output","call_id":"2","tools":[{"type":"function","name":"f"}]},{"type":"mcp_call","id":"1"},{"role":"user","content":[{"type":"odd"}]}],"tools":[{"type":"shell"},{"type":"mcp"}],"tool_choice":{"type":"mcp"},"prompt_cache_options":{"prewarm":true}}"#,
    br#"{"model":"m","input":[{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":[{"type":"input_image","image_url":"data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD/wAALCAABAAEBAREA"}]},{"role":"user","content":[{"type":"input_image","file_id":"f"},{"type":"input_file","file_url":"https://x"}]}]}"#,
    br#"{"model":"m","input":"hi","instructions":"a","text":{"format":{"type":"json_object"}},"stream":true}"#,
    br#"{"model":"m","input":[{"id":"msg_1","role":"user","content":"a"},{"type":"item_reference","id":"msg_1"},{"id":"msg_1"}],"background":true}"#,
    br#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"reasoning"}],"reasoning":{"effort":"low"}}"#,
    br#"{"model":"m","input":[{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"x"}]}"#,
    br#"{"model":"m","input":"a","tools":[{"type":"function","name":"f"},{"type":"custom","name":"g"},{"type":"namespace","name":"n","tools":[{"type":"function","name":"f"}]}],"tool_choice":{"type":"allowed_tools","tools":[{"name":"f"}]}}"#,
];

#[test]
fn bodies_of_responses_are_read_or_refused() {
    let store = Store::new(64 << 10, Duration::from_secs(60), None);
    let own = store.of(Owner::default());
    fuzz(|rng| {
        let body = mutated(rng, RESPONSES, JSON_WORDS);
        if let Ok(mut request) = responses::parse(&mut body.clone().into(), images(rng), &own) {
            // Whoever wants no answer may ask nothing.
            assert!(!request.chats[0].turns.is_empty() || request.chats[0].n == 0);
            check_media(&mut request.chats[0]);
            if let Some(keeper) = &mut request.keeper {
                keeper.whole(r#"{"id":"resp_1","status":"completed","output":[]}"#);
            }
            drop(request);
            assert!(store.bytes() <= 64 << 10, "{} bytes", store.bytes());
        }
    });
}

const ANSWERS: &[&[u8]] = &[
    b"Let me see.\n\n<call-7f3a name=\"add\">{\"a\": \"}\\\"\"}</call-7f3a>\n",
    b"```xml\n<call-7f3a name='add'>\n```json\n{\"a\": [1]}\n```\n</call-7f3a>\n```",
    b"<call-7f3a name=\"add\">{}</call-7f3a><call-7f3a name=\"add\">{\"a\": 1}",
    b"Say `x`:\n- <call-7f3a name=add>{s: 'it\\'s', i: \"3\", e: X, \"o\": \"{b: True}\",}</call>\n2. <call-7f3a>",
    b"&lt;call-7f3a name=&quot;functions.add&quot;&gt;{&quot;s&quot;:&quot;a&quot;}&lt;/call-7f3a&gt;",
    b"<call-7f3a>[{\"name\":\"add\",\"arguments\":\"{\\\"s\\\":1}\"},{\"add\":{}}]</call-7f3a>\n> x",
    b"<call-7f3a name=\"add\"><parameter name=\"s\">a\nb</parameter><i>3</i></call-7f3a>",
    b"<call-7f3a name=\"add\">{\"s\":\"say \"hi\", \\d C:\\new </call-7f3a> \",\"a\":[1,2]</call-7f3a>",
    b"<!-- x --><think>y</think>```md\n# z\n``` `<call-7f3a add/>` for example: <call-7f3a add/> no",
    br#"{"calls": [{"name": "add", "arguments": {"a": {}}}, {"name": "add", "arguments": {}}]}"#,
];
const ANSWER_WORDS: &[&[u8]] = &[
    b"<call-7f3a",
    b"</call-7f3a>",
    b"&lt;",
    b"&quot;",
    b"'",
    b"`",
    b":",
    b",",
    b"\"\"\"",
    b"\\u12",
    b" + ",
    b"//",
    b"/*",
    b"<i>",
    b"</i>",
    b"- ",
    b"1. ",
    b"not run: ",
    b" name=\"add\">",
    b"```",
    b"\n",
    b"{",
    b"}",
    b"\"",
    b"\\",
    b"<",
    b"\xc3\xa9",
];

/// A tool whose arguments have every type.
fn add() -> Tool {
    let items = serde_json::json!({"type": "array", "items": {"$ref": "#/properties/o"}});
    let parameters = serde_json::json!({"type": "object", "properties": {
        "a": items, "s": {"type": "string"}, "i": {"type": "integer"}, "e": {"enum": ["x", "y"]},
        "o": {"type": "object", "properties": {"b": {"type": "boolean"}, "a": {"type": "string"}}},
    }});
    let name = "add".to_owned();
    Tool { name, parameters: Some(parameters), ..Tool::default() }
}

/// What a parser finds in a text that comes in these pieces, put together.
fn found(
    pieces: &[&str],
    mut push: impl FnMut(Option<&str>, &mut Vec<Piece>),
) -> (String, Vec<(String, String)>, bool) {
    let (mut text, mut calls, mut cut) = (String::new(), Vec::new(), false);
    let mut found = Vec::new();
    pieces.iter().for_each(|piece| push(Some(piece), &mut found));
    push(None, &mut found);
    let mut open = false;
    for piece in found {
        assert!(!cut, "nothing comes behind a cut call");
        match piece {
            Piece::Text(more) => {
                assert!(calls.is_empty() && !more.is_empty(), "text comes first");
                text += &more;
            }
            Piece::Begin { name } => {
                assert!(!std::mem::replace(&mut open, true), "one call after the other");
                calls.push((name, String::new()));
            }
            Piece::Arguments(more) => {
                assert!(open && !more.is_empty());
                calls.last_mut().unwrap().1 += &more;
            }
            Piece::End => assert!(std::mem::replace(&mut open, false)),
            Piece::Cut => {
                assert!(std::mem::replace(&mut open, false));
                cut = true;
            }
        }
    }
    assert!(!open, "every call ends");
    (text, calls, cut)
}

#[test]
fn calls_are_told_from_text_alike_whatever_pieces_they_come_in() {
    fuzz(|rng| {
        let bytes = mutated(rng, ANSWERS, ANSWER_WORDS);
        let text = String::from_utf8_lossy(&bytes);
        let mut cuts = [0, rng.usize(..=text.len()), rng.usize(..=text.len()), text.len()];
        cuts = cuts.map(|at| boundary(&text, at));
        cuts.sort_unstable();
        let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
        let names = ["add".to_owned()];
        let tools: Arc<[Tool]> = [add()].into();
        let parallel = rng.bool();
        let marked = |pieces: &[&str]| {
            let marker = marked::Marker::new("7f3a");
            let mut parser = marked::Parser::new(marker, tools.clone(), parallel);
            found(pieces, |piece, out| match piece {
                Some(piece) => parser.push(piece, out),
                None => parser.finish(out),
            })
        };
        let (shown, calls, cut) = marked(&[&text]);
        assert_eq!(marked(&pieces), (shown.clone(), calls.clone(), cut), "{text:?}");
        // What is no call is text, and no more than what was written is made of it.
        assert!(!calls.is_empty() || shown == text, "{text:?}");
        assert!(text.starts_with(shown.as_str()), "{text:?}");
        let written: usize = calls.iter().map(|(_, arguments)| arguments.len()).sum();
        assert!(parallel || calls.len() <= 1, "{text:?}");
        assert!(written <= 16 * text.len() + 16, "{text:?} became {calls:?}");
        let forced = |pieces: &[&str]| {
            let tool = |name: &String| Tool { name: name.clone(), ..Tool::default() };
            let (tools, marker) = (names.iter().map(tool).collect(), marked::Marker::new("7f3a"));
            let mut parser = forced::Parser::new(forced::Form::List, tools, marker, true);
            found(pieces, |piece, out| match piece {
                Some(piece) => parser.push(piece, out),
                None => parser.finish(out),
            })
        };
        assert_eq!(forced(&pieces), forced(&[&text]), "{text:?}");
    });
}

const MESSAGES: &[&[u8]] = &[
    br#"{"model":"m","max_tokens":0,"system":[{"type":"odd"}],"messages":[{"role":"assistant","content":[{"type":"server_tool_use","id":"1","name":"f","input":{}},{"type":"compaction","content":"x"}]},{"role":"user","content":[{"type":"search_result","title":"t","source":"s","content":[{"type":"text","text":"a"}]},{"type":"tool_reference","tool_name":"t"}]}],"tools":[{"type":"web_search_20250305","name":"w"}],"tool_choice":{"type":"tool","name":"w"},"mcp_servers":[{}]}"#,
    br#"{"model":"m","max_tokens":5,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"image","source":{"type":"base64","media_type":"image/webp","data":"UklGRhYAAABXRUJQVlA4TAkAAAAvAAAAAAAAAAA="}}]},{"type":"document","source":{"type":"text","data":"x"}},{"type":"document","source":{"type":"url","url":"https://x"}}]}]}"#,
    br#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}],"stream":true}"#,
    br#"{"model":"m","max_tokens":5,"system":[{"type":"text","text":"a"}],"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"stop_sequences":["x"]}"#,
    br#"{"model":"m","max_tokens":5,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"x","is_error":true}]}]}"#,
    br#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}],"tools":[{"name":"f","input_schema":{}},{"type":"bash_20250124","name":"bash"}],"tool_choice":{"type":"any"}}"#,
    br#"{"model":"m","max_tokens":5,"messages":[{"role":"system","content":"a"}],"output_config":{"effort":"low","format":{"type":"json_schema","schema":{}}},"thinking":{"type":"adaptive"}}"#,
];

#[test]
fn messages_of_anthropics_are_read_or_refused() {
    fuzz(|rng| {
        let body = mutated(rng, MESSAGES, JSON_WORDS);
        if let Ok(mut request) = anthropic::request::parse(&mut body.clone().into(), images(rng)) {
            let chat = &mut request.chats[0];
            let wants_answer = chat.sampling.max_completion_tokens > Some(0);
            assert!(!chat.turns.is_empty() && chat.n == usize::from(wants_answer));
            check_media(chat);
            let counted = anthropic::request::parse_to_count(&mut body.clone().into(), images(rng));
            assert!(counted.is_ok());
        }
    });
}

/// Lists of models as they are copied.
const COPIED: &[&[u8]] = &[
    br#"[{"slug":"a","status":"public","versions":["v"],"parameters":{"stream":true},"x":1.50}]"#,
    br#"{"data":[{"model":{"slug":"b","parameters":{"message_types":["user"]}}},{"model":null}]}"#,
    br#"{"log":{"entries":[{"request":{"url":"u?k"},"response":{"content":{"text":"[{\"slug\":\"c\",\"parameters\":{\"stream\":true}}]"}}}]}}"#,
    br#"{"code":"PGRST301","message":"JWT expired"}"#,
    b"\xff\xfe[\0{\0}\0]\0",
];

#[test]
fn what_is_copied_as_a_list_of_models_is_refused_or_can_be_served() {
    fuzz(|rng| {
        let copied = mutated(rng, COPIED, JSON_WORDS);
        let Ok(found) = import::find(&copied) else { return };
        let plan = import::plan(found, BUILT_IN, rng.bool()).unwrap();
        assert!(Models::parse(&plan.json, &[], Unknown::Refuse).is_ok(), "{}", plan.json);
        // What is kept is what was found.
        let again =
            import::plan(import::find(plan.json.as_bytes()).unwrap(), &plan.json, false).unwrap();
        assert!(again.changes.new.is_empty() && again.changes.changed.is_empty());
    });
}

/// Pairs of a schema and a value.
const SCHEMAS: &[&[u8]] = &[
    br##"[{"type":"object","properties":{"a":{"$ref":"#/$defs/n"},"b":{"enum":[1,"x",null]}},"required":["a"],"additionalProperties":false,"$defs":{"n":{"anyOf":[{"type":"null"},{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}}}]}}},{"a":{"next":null},"b":1.0}]"##,
    br##"[{"prefixItems":[{"const":1},{"not":{}}],"items":{"multipleOf":0.1},"contains":{"minimum":2},"minContains":0,"uniqueItems":true,"unevaluatedItems":false},[1,2.5,1e300,18446744073709551616]]"##,
    br##"[{"patternProperties":{"^a{1,3}(b|c)*$":{"pattern":"[^\d\-x]+?$"}},"propertyNames":{"maxLength":3},"unevaluatedProperties":{"type":["string","integer"]},"dependentSchemas":{"ab":{"minProperties":2}},"if":{"required":["z"]},"then":false,"else":{"oneOf":[true,{"$anchor":"k"}]},"allOf":[{"$ref":"#k"}]},{"ab":"q","abc":3}]"##,
    br##"[{"$schema":"http://json-schema.org/draft-07/schema#","$id":"http://x/y","items":[{"format":"date"}],"additionalItems":{"nullable":true,"exclusiveMinimum":true,"minimum":1},"dependencies":{"a":["b"]},"definitions":{"d":{"$id":"http://x/z","$ref":"#"}}},["x",null,1]]"##,
];
const SCHEMA_WORDS: &[&[u8]] = &[
    b"\"$ref\":\"#\",",
    b"\"not\":{},",
    b"\"unevaluatedProperties\":false,",
    b"\"$id\":\"u:v\",",
    b"\"nullable\":true,",
    b"(a*)*",
    b"{2}",
    b"|",
    b"[",
    b"]",
    b"{",
    b"}",
    b"true",
    b"9e99",
    b"\\\\",
    b"\"",
    b",",
];

#[test]
fn judgements_by_a_schema_never_contradict_each_other() {
    let judged = |schema: &Value, value: &Value| match Schema::new(schema).judge(value) {
        Judgement::Fits => Some(true),
        Judgement::Open => None,
        Judgement::Unfit(fault) => {
            assert!(fault.starts_with('$') && fault.len() < 10_000, "{fault}");
            Some(false)
        }
    };
    fuzz(|rng| {
        let bytes = mutated(rng, SCHEMAS, SCHEMA_WORDS);
        let Ok((schema, value)) = serde_json::from_slice::<(Value, Value)>(&bytes) else { return };
        let fits = judged(&schema, &value);
        // Within another schema `#` means that one, so that only the negations can be compared.
        let opposite = judged(&json!({"not": schema}), &value);
        let twice = judged(&json!({"not": {"not": schema}}), &value);
        assert!(opposite.is_none() || opposite != twice, "{schema} {value}");
        let same = |other: Option<bool>| fits.is_none() || other.is_none() || fits == other;
        if !schema.to_string().contains("\"#") {
            for around in ["allOf", "anyOf", "oneOf"] {
                assert!(same(judged(&json!({around: [schema]}), &value)), "{schema} {value}");
            }
            assert!(same(twice), "{schema} {value}");
        }
        let listed = judged(&json!({"enum": [value]}), &value);
        assert_ne!(listed, Some(false), "{value}");
    });
}
