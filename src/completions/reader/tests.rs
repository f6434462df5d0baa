use super::*;
use crate::chat::models::{BUILT_IN, Models, Unknown};
use crate::chat::{ChatRequest, Role, Sampling, Tool, ToolChoice, Tools, Turn, tools};
use proptest::prelude::*;
use serde_json::json;

/// The plan of a request to a model that writes calls between markers. Its tools are `weather`,
/// whose place is a string, and `time`.
fn plan(choice: ToolChoice) -> Arc<Plan> {
    let place = json!({"type": "object", "required": ["place"], "properties": {"place": {"type": "string"}}});
    let tool =
        |name: &str, parameters| Tool { name: name.to_owned(), parameters, ..Tool::default() };
    let list = vec![tool("weather", Some(place)), tool("time", None)];
    made(Tools { list, choice, ..Tools::default() })
}

fn made(tools: Tools) -> Arc<Plan> {
    let mut request = ChatRequest {
        // A model that cannot be made to write JSON of a schema.
        model: "gpt-3.5-turbo".to_owned(),
        turns: vec![Turn::message(Role::User, "Hi")],
        tools,
        sampling: Sampling::default(),
        stop: Vec::new(),
        n: 1,
        ignored: Vec::new(),
        left_out: Vec::new(),
    };
    let models = Models::parse(BUILT_IN, &[], Unknown::Refuse).unwrap();
    let model = models.find("gpt-3.5-turbo").unwrap();
    Arc::new(tools::plan(&mut request, model, &Default::default()))
}

fn without_tools() -> Arc<Plan> {
    made(Tools::default())
}

/// A call as the model was told to write it.
fn marked(plan: &Plan, name: &str, arguments: &str) -> String {
    let told: String = plan.prompt.messages.iter().map(|m| m.content.text()).collect();
    let nonce = &told.split_once("<call-").unwrap().1[..8];
    format!("<call-{nonce} name=\"{name}\">{arguments}</call-{nonce}>")
}

fn reader(plan: &Arc<Plan>, stops: &[&str], holds_calls: bool) -> Reader {
    let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
    Reader::new(plan.clone(), stops.into(), holds_calls)
}

fn total(reader: &Reader) -> u64 {
    reader.tokens().into_iter().sum()
}

/// Parts in words, without the ids of calls.
fn words(parts: Vec<Part>) -> Vec<String> {
    let word = |part| match part {
        Part::Text(text) => {
            assert!(!text.is_empty());
            format!("text {text}")
        }
        Part::CallBegin(call) => {
            assert!(call.arguments.is_empty(), "they follow");
            format!("call {}", call.name)
        }
        Part::Arguments(piece) => {
            assert!(!piece.is_empty());
            format!("arguments {piece}")
        }
        Part::CallEnd => "end".to_owned(),
    };
    parts.into_iter().map(word).collect()
}

/// The parts that a piece of text brings.
fn push(reader: &mut Reader, text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    reader.push(text.to_owned(), &mut parts);
    words(parts)
}

/// The parts that the end of the text brings, and how the choice ended.
fn end(reader: &mut Reader, reason: FinishReason) -> (Vec<String>, Ending) {
    let mut parts = Vec::new();
    reader.finish(&mut parts);
    let ending = reader.end(reason, &mut parts);
    (words(parts), ending)
}

fn ended(reason: FinishReason) -> Ending {
    Ending { reason, stop: None }
}

/// The parts of a whole text, and how the choice ended.
fn read(reader: &mut Reader, text: &str, reason: FinishReason) -> (Vec<String>, Ending) {
    let mut parts = push(reader, text);
    let (rest, ending) = end(reader, reason);
    parts.extend(rest);
    (parts, ending)
}

// Text, and the texts that end it.

#[test]
fn without_tools_and_stop_texts_text_is_passed_on_as_it_comes() {
    let mut reader = reader(&without_tools(), &[], true);
    assert_eq!(push(&mut reader, "<call-x "), ["text <call-x "]);
    assert_eq!(push(&mut reader, "b "), ["text b "]);
    assert!(!reader.is_done() && total(&reader) > 0);
    for reason in [FinishReason::Length, FinishReason::ContentFilter, FinishReason::Stop] {
        assert_eq!(end(&mut reader, reason), (vec![], ended(reason)));
    }
    assert_eq!(reader.verdict(), None);
}

#[test]
fn a_stop_text_ends_the_text_before_it_and_is_named() {
    for plan in [without_tools(), plan(ToolChoice::Auto)] {
        let mut reader = reader(&plan, &["", "END", "no"], false);
        assert_eq!(push(&mut reader, "aE"), ["text a"]);
        assert_eq!(push(&mut reader, "NDb"), [""; 0]);
        assert!(reader.is_done());
        assert_eq!(push(&mut reader, "c"), [""; 0]);
        let stop = Some("END".to_owned());
        let ending = Ending { reason: FinishReason::Stop, stop };
        assert_eq!(end(&mut reader, FinishReason::Length), (vec![], ending));
    }
}

#[test]
fn what_was_held_back_as_a_stop_texts_beginning_is_shown_at_the_end() {
    for plan in [without_tools(), plan(ToolChoice::Auto)] {
        let mut reader = reader(&plan, &["END"], false);
        assert_eq!(push(&mut reader, "aEN"), ["text a"]);
        let before = total(&reader);
        let shown = end(&mut reader, FinishReason::Stop);
        assert_eq!(shown, (vec!["text EN".to_owned()], ended(FinishReason::Stop)));
        assert!(total(&reader) >= before);
    }
}

#[test]
fn tokens_behind_a_stop_text_are_not_counted_without_tools() {
    let (mut short, mut long) =
        (reader(&without_tools(), &[], true), reader(&without_tools(), &["END"], true));
    push(&mut short, "one two ");
    push(&mut long, "one two END and much more that nobody sees");
    assert_eq!(short.tokens(), long.tokens());
}

// Calls.

#[test]
fn calls_are_told_as_they_come_unless_they_are_held() {
    let plan = plan(ToolChoice::Auto);
    let call = marked(&plan, "weather", "{\"place\":\"Oslo\"}");
    let (begin, rest) = call.split_at(call.find("Oslo").unwrap());
    let told = ["text Look.", "call weather", "arguments {\"place\":\""];
    let behind = ["arguments Oslo\"}", "end"];

    let mut as_they_come = reader(&plan, &[], false);
    assert_eq!(push(&mut as_they_come, &format!("Look.\n{begin}")), told);
    assert_eq!(push(&mut as_they_come, rest), behind);
    let ending = ended(FinishReason::ToolCalls);
    assert_eq!(end(&mut as_they_come, FinishReason::Stop), (vec![], ending.clone()));

    let mut held = reader(&plan, &[], true);
    assert_eq!(push(&mut held, &format!("Look.\n{begin}")), ["text Look."]);
    assert_eq!(push(&mut held, rest), [""; 0]);
    let whole = ["call weather", "arguments {\"place\":\"Oslo\"}", "end"];
    assert_eq!(end(&mut held, FinishReason::Stop), (whole.map(str::to_owned).into(), ending));

    for reader in [as_they_come, held] {
        assert_eq!((reader.verdict(), reader.fault()), (Some(CallVerdict::Valid), None));
        assert!(!reader.left_out());
    }
}

#[test]
fn the_reason_is_the_models_own_if_it_was_cut_behind_a_call() {
    let plan = plan(ToolChoice::Auto);
    let call = marked(&plan, "time", "{}");
    for reason in [FinishReason::Length, FinishReason::ContentFilter] {
        assert_eq!(read(&mut reader(&plan, &[], false), &call, reason).1, ended(reason));
    }
}

#[test]
fn a_stop_text_before_a_call_ends_the_answer_and_within_one_it_does_not() {
    let plan = plan(ToolChoice::Auto);
    let call = marked(&plan, "weather", "{\"place\":\"END\"}");
    for holds_calls in [false, true] {
        let mut before = reader(&plan, &["END"], holds_calls);
        let (parts, ending) = read(&mut before, &format!("aEND{call}"), FinishReason::Stop);
        assert_eq!(parts, ["text a"]);
        assert_eq!(ending.stop.as_deref(), Some("END"));
        let mut within = reader(&plan, &["END"], holds_calls);
        let (parts, ending) = read(&mut within, &call, FinishReason::Stop);
        assert_eq!(parts.first().unwrap(), "call weather");
        assert_eq!(ending, ended(FinishReason::ToolCalls));
    }
}

#[test]
fn a_call_that_the_text_ends_within_is_cut_for_its_length_whatever_the_reason() {
    let plan = plan(ToolChoice::Auto);
    let call = marked(&plan, "weather", "{\"place\":\"Oslo\"}");
    let cut = &call[..call.find("Oslo").unwrap()];
    let told = ["call weather", "arguments {\"place\":\"", "end"];
    for holds_calls in [true, false] {
        for reason in [FinishReason::Length, FinishReason::Stop] {
            let mut reader = reader(&plan, &[], holds_calls);
            assert_eq!(
                read(&mut reader, cut, reason),
                (told.map(str::to_owned).into(), ended(FinishReason::Length))
            );
            assert_eq!(reader.verdict(), Some(CallVerdict::InvalidArguments));
        }
    }
    // So it is behind another call, and within a tag, which is no call yet.
    let whole = marked(&plan, "time", "{}");
    let mut second = reader(&plan, &[], true);
    let (parts, ending) = read(&mut second, &format!("{whole}{cut}"), FinishReason::Stop);
    assert_eq!((parts.len(), ending), (6, ended(FinishReason::Length)));
    let mut tag = reader(&plan, &[], true);
    let (parts, ending) = read(&mut tag, &call[..20], FinishReason::Stop);
    let text = vec![format!("text {}", &call[..20])];
    assert_eq!((parts, ending), (text, ended(FinishReason::Length)));
}

#[test]
fn a_call_of_another_form_or_of_no_tool_is_noticed() {
    let plan = plan(ToolChoice::Auto);
    let told = |text: &str| {
        let mut reader = reader(&plan, &[], false);
        let (parts, ending) = read(&mut reader, text, FinishReason::Stop);
        (parts, ending.reason, reader.verdict(), reader.fault().is_some())
    };
    let leaked = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    let (stop, verdict) = (FinishReason::Stop, Some(CallVerdict::Leaked));
    assert_eq!(told(leaked), (vec![format!("text {leaked}")], stop, verdict, true));
    let (parts, reason, verdict, has_fault) = told(&marked(&plan, "calendar", "{}"));
    assert_eq!(parts, ["call calendar", "arguments {}", "end"]);
    assert_eq!((reason, has_fault), (FinishReason::ToolCalls, true));
    assert_eq!(verdict, Some(CallVerdict::UnknownTool));
}

#[test]
fn repaired_arguments_are_valid_and_said_to_be_repaired() {
    let plan = plan(ToolChoice::Auto);
    for (arguments, is_repaired) in [("{place: 'Oslo',}", true), ("{\"place\":\"Oslo\"}", false)] {
        let mut reader = reader(&plan, &[], false);
        read(&mut reader, &marked(&plan, "weather", arguments), FinishReason::Stop);
        assert_eq!(reader.verdict(), Some(CallVerdict::Valid));
        assert_eq!(reader.repaired(), is_repaired);
    }
}

#[test]
fn text_behind_calls_is_left_out_and_nothing_more_is_wanted() {
    let plan = plan(ToolChoice::Auto);
    let mut reader = reader(&plan, &[], false);
    push(&mut reader, &marked(&plan, "time", "{}"));
    assert!(!reader.is_done() && !reader.left_out());
    assert_eq!(push(&mut reader, "\nIt is noon."), [""; 0]);
    assert!(reader.is_done() && reader.left_out());
}

#[test]
fn what_is_wrong_with_the_calls_is_said() {
    let fault = |choice: ToolChoice, text: &dyn Fn(&Plan) -> String| {
        let plan = plan(choice);
        let mut reader = reader(&plan, &[], true);
        read(&mut reader, &text(&plan), FinishReason::Stop);
        (reader.fault(), reader.verdict())
    };
    assert_eq!(fault(ToolChoice::Auto, &|_| "Hi".to_owned()), (None, None));
    let (none, verdict) = fault(ToolChoice::Required, &|_| "Hi".to_owned());
    assert!(none.unwrap().starts_with("You have to call a tool"));
    assert_eq!(verdict, Some(CallVerdict::NoCall));
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    for (arguments, said) in [
        ("{\"place\":null}", "do not fit"),
        ("{\"place\":}", "not valid JSON"),
        ("{\"place\":\"\\ud83d\"}", "cannot be read"),
        (&deep, "nested deeper than"),
    ] {
        let (fault, verdict) = fault(ToolChoice::Auto, &|plan| marked(plan, "weather", arguments));
        assert!(fault.as_ref().is_some_and(|fault| fault.contains(said)), "{fault:?}");
        assert_eq!(verdict, Some(CallVerdict::InvalidArguments));
    }
}

// Mending by another run.

/// A reader of calls that are not valid, and the prompt by which they are mended.
fn mended(plan: &Arc<Plan>, text: &str) -> (Reader, Vec<String>, Prompt) {
    let mut reader = reader(plan, &[], true);
    let mut parts = push(&mut reader, text);
    let mut rest = Vec::new();
    reader.finish(&mut rest);
    parts.extend(words(rest));
    let prompt = reader.repair(FinishReason::Stop).expect("something is to be mended");
    (reader, parts, prompt)
}

#[test]
fn a_mended_call_counts_and_the_text_beside_it_is_not_shown() {
    let plan = plan(ToolChoice::Auto);
    let wrong = marked(&plan, "weather", "{\"place\":null}");
    let (mut reader, shown, prompt) = mended(&plan, &format!("Look: {wrong}"));
    assert_eq!(shown, ["text Look:"]);
    let [.., reply, asked] = &prompt.messages[..] else { panic!() };
    let expected = format!("Look: {wrong}");
    assert_eq!((reply.role, &*reply.content.text()), (Role::Assistant, &expected[..]));
    assert!(asked.role == Role::User && asked.content.text().contains("do not fit"));

    let first = total(&reader);
    assert!(first > 0);
    let right = marked(&plan, "weather", "{\"place\":\"Oslo\"}");
    let (parts, ending) = read(&mut reader, &format!("Sorry: {right}"), FinishReason::Stop);
    assert_eq!(parts, ["call weather", "arguments {\"place\":\"Oslo\"}", "end"]);
    assert_eq!(ending, ended(FinishReason::ToolCalls));
    assert_eq!(reader.verdict(), Some(CallVerdict::Repaired));
    assert!(total(&reader) > first, "both runs count");
}

#[test]
fn a_call_of_another_form_is_not_shown_before_it_is_mended() {
    let plan = plan(ToolChoice::Auto);
    let leaked = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    let right = marked(&plan, "weather", "{\"place\":\"Oslo\"}");
    let (mut reader, shown, _) = mended(&plan, &format!("Look: {leaked}"));
    assert_eq!(joined_text(&shown), "Look: ");
    let (parts, _) = read(&mut reader, &right, FinishReason::Stop);
    assert_eq!(parts, ["call weather", "arguments {\"place\":\"Oslo\"}", "end"]);

    // What is not mended is shown all the same.
    let (mut reader, _, _) = mended(&plan, &format!("Look: {leaked}"));
    let (parts, _) = read(&mut reader, "I am sorry.", FinishReason::Stop);
    assert_eq!(joined_text(&parts), leaked);
}

fn joined_text(parts: &[String]) -> String {
    parts.iter().filter_map(|part| part.strip_prefix("text ")).collect()
}

#[test]
fn what_is_not_mended_stays_as_it_was() {
    let plan = plan(ToolChoice::Auto);
    let wrong = marked(&plan, "weather", "{\"place\":null}");
    let (mut reader, _, _) = mended(&plan, &wrong);
    let (parts, ending) = read(&mut reader, "I am sorry.", FinishReason::Stop);
    assert_eq!(parts, ["call weather", "arguments {\"place\":null}", "end"]);
    assert_eq!(ending, ended(FinishReason::ToolCalls));
    assert_eq!(reader.verdict(), Some(CallVerdict::InvalidArguments));

    let (mut again, _, _) = mended(&plan, &wrong);
    push(&mut again, &marked(&plan, "weather", "{\"place\":null,\"b\":2}"));
    assert_eq!(again.repair(FinishReason::Stop), None, "once is enough");
    let (parts, _) = end(&mut again, FinishReason::Stop);
    assert_eq!(parts, ["call weather", "arguments {\"place\":null,\"b\":2}", "end"]);

    // A call that the first text ended within stays one that is cut, as without a second run.
    let cut = &wrong[..wrong.find("null}").unwrap()];
    let (mut reader, _, _) = mended(&plan, cut);
    let (parts, ending) = read(&mut reader, "I am sorry.", FinishReason::Stop);
    assert_eq!(parts, ["call weather", "arguments {\"place\":", "end"]);
    assert_eq!(ending, ended(FinishReason::Length));
}

#[test]
fn the_text_of_a_second_run_is_shown_only_if_there_is_nothing_else() {
    let plan = plan(ToolChoice::Required);
    let (mut silent, shown, _) = mended(&plan, "");
    assert_eq!(shown, [""; 0]);
    assert_eq!(read(&mut silent, "I cannot.", FinishReason::Stop).0, ["text I cannot."]);
    let (mut spoken, shown, _) = mended(&plan, "No.");
    assert_eq!(shown, ["text No."]);
    assert_eq!(read(&mut spoken, "I cannot.", FinishReason::Stop).0, [""; 0]);
    for reader in [silent, spoken] {
        assert_eq!(reader.verdict(), Some(CallVerdict::NoCall));
    }
}

#[test]
fn only_a_whole_text_with_a_fault_is_mended() {
    let repair = |choice: ToolChoice, arguments: Option<&str>, stops: &[&str], reason| {
        let plan = plan(choice);
        let call = arguments.map(|arguments| marked(&plan, "weather", arguments));
        let mut reader = reader(&plan, stops, true);
        push(&mut reader, &format!("Look: {}", call.unwrap_or_default()));
        reader.finish(&mut Vec::new());
        reader.repair(reason).is_some()
    };
    let (stop, length) = (FinishReason::Stop, FinishReason::Length);
    let (right, wrong) = (Some("{\"place\":\"Oslo\"}"), Some("{\"place\":null}"));
    assert!(repair(ToolChoice::Auto, wrong, &[], stop));
    assert!(repair(ToolChoice::Required, None, &[], stop));
    assert!(!repair(ToolChoice::Auto, right, &[], stop));
    assert!(!repair(ToolChoice::Auto, None, &[], stop));
    assert!(!repair(ToolChoice::Auto, wrong, &[], length));
    assert!(!repair(ToolChoice::Required, None, &["ook"], stop));
}

// Final texts that differ from the streamed one.

/// The parts that the final text adds to those emitted, if it allows that.
fn revised(reader: &mut Reader, shown: &str, text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    push(reader, shown);
    reader.revise(shown, text.to_owned(), &mut parts).then(|| words(parts))
}

#[test]
fn a_final_text_may_differ_in_what_was_not_told_yet() {
    let plain = without_tools();
    let adds = |text: &str| revised(&mut reader(&plain, &[], true), "Hello \n", text);
    assert_eq!(adds("Hello"), Some(vec![]));
    assert_eq!(adds("Hello \n there"), Some(vec!["text  there".to_owned()]));
    assert_eq!(adds("Hullo \n"), None);
    assert_eq!(adds(""), None);

    let plan = plan(ToolChoice::Auto);
    let (one, other) = (marked(&plan, "weather", "{\"a\":1}"), marked(&plan, "time", "{}"));
    let mut held = reader(&plan, &[], true);
    assert_eq!(revised(&mut held, &one, &other), Some(vec![]));
    let mut parts = Vec::new();
    assert_eq!(held.end(FinishReason::Stop, &mut parts), ended(FinishReason::ToolCalls));
    assert_eq!(words(parts), ["call time", "arguments {}", "end"]);
    let same = marked(&plan, "time", "{\"a\":1}");
    for other in [other.as_str(), &same] {
        assert_eq!(revised(&mut reader(&plan, &[], false), &one, other), None);
    }
    let longer = format!("{one}\n{other}");
    let more = ["call time", "arguments {}", "end"].map(str::to_owned);
    assert_eq!(revised(&mut reader(&plan, &[], false), &one, &longer), Some(more.into()));
}

#[test]
fn of_a_second_run_nothing_has_been_told_so_its_final_text_may_be_any() {
    let plan = plan(ToolChoice::Auto);
    let wrong = marked(&plan, "weather", "{\"place\":null}");
    let right = marked(&plan, "weather", "{\"place\":\"Oslo\"}");
    let (mut reader, _, _) = mended(&plan, &wrong);
    assert_eq!(revised(&mut reader, "I am sorry.", &right), Some(vec![]));
    assert_eq!(end(&mut reader, FinishReason::Stop).0[0], "call weather");
    assert_eq!(reader.verdict(), Some(CallVerdict::Repaired));
}

#[test]
fn a_reader_that_begins_again_says_whether_its_text_was_shown() {
    let plan = plan(ToolChoice::Auto);
    let mut first = reader(&plan, &["END"], true);
    push(&mut first, "aEND");
    assert!(first.restart());
    assert!(!first.is_done());
    assert_eq!(read(&mut first, "bEND", FinishReason::Stop).0, ["text b"]);

    let (mut second, _, _) = mended(&plan, &marked(&plan, "weather", "{\"place\":null}"));
    push(&mut second, "I am sorry.");
    assert!(!second.restart());
    assert_eq!(second.repair(FinishReason::Stop), None, "it is the second still");

    let (mut second, _, _) = mended(&self::plan(ToolChoice::Required), "");
    push(&mut second, "I am sorry.");
    second.restart();
    assert_eq!(read(&mut second, "I cannot.", FinishReason::Stop).0, ["text I cannot."]);
}

/// A text that a model may write: some of its own, with calls, whole and cut, and a stop text.
fn any_reply() -> impl Strategy<Value = Vec<&'static str>> {
    let piece =
        prop::sample::select(vec!["Hi ", "END", "E", "<", "`", "\n", "CALL", "BAD", "CUT", "é😀"]);
    prop::collection::vec(piece, 0..8)
}

proptest! {
    #[test]
    fn pieces_and_holding_make_no_difference_to_what_is_told(
        reply in any_reply(),
        sizes in prop::collection::vec(1..9usize, 1..20),
    ) {
        let plan = plan(ToolChoice::Auto);
        let call = marked(&plan, "weather", "{\"place\":\"Oslo\"}");
        let bad = marked(&plan, "weather", "{\"place\":null}");
        let cut = &call[..call.len() / 2];
        let text = reply.concat().replace("CALL", &call).replace("BAD", &bad);
        let text = text.replace("CUT", cut);
        let whole = |holds_calls, sizes: &[usize]| {
            let mut reader = reader(&plan, &["END"], holds_calls);
            let (mut parts, mut chars) = (Vec::new(), text.chars());
            for size in sizes.iter().cycle() {
                let piece: String = chars.by_ref().take(*size).collect();
                if piece.is_empty() || reader.is_done() {
                    break;
                }
                reader.push(piece, &mut parts);
            }
            reader.finish(&mut parts);
            let ending = reader.end(FinishReason::Length, &mut parts);
            (words(joined(parts)), ending, reader.verdict())
        };
        let at_once = whole(false, &[usize::MAX]);
        prop_assert_eq!(&whole(false, &sizes), &at_once);
        prop_assert_eq!(&whole(true, &sizes), &at_once);
    }
}

#[test]
fn the_fault_of_arguments_is_named_and_none_is_found_in_what_would_take_too_much_memory() {
    let plan = plan(ToolChoice::Auto);
    let fault = |name: &str, arguments: String| {
        plan.fault(&ToolCall { id: String::new(), name: name.to_owned(), arguments })
    };
    let zeros = format!("[{}0]", "0,".repeat(1 << 20));
    for (arguments, expected) in [
        (r#"{"place": "Oslo"}"#.to_owned(), None),
        (format!(r#"{{"place": {zeros}}}"#), None),
        (r#"{"place": 3}"#.to_owned(), Some("do not fit their schema")),
        (zeros.clone(), Some("are no JSON object")),
        ("[]".to_owned(), Some("are no JSON object")),
        (format!(r#"{{"place": {zeros}"#), Some("are not valid JSON")),
        (r#"{"place": "#.to_owned(), Some("are not valid JSON")),
        (r#"{"place": 1e999}"#.to_owned(), Some("hold a number, or half a character")),
        (format!(r#"{{"place": {}}}"#, "[".repeat(200)), Some("are nested deeper than 127")),
    ] {
        let found = fault("weather", arguments);
        let is_it = match (&found, expected) {
            (Some(found), Some(expected)) => found.contains(expected),
            (found, expected) => found.is_none() && expected.is_none(),
        };
        assert!(is_it, "{expected:?}: {found:.200?}");
    }
    let found = fault("clock", format!(r#"{{"at": {zeros}}}"#));
    assert_eq!(found.as_deref(), Some("There is no tool clock."));
}
