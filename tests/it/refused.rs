//! What LangFast, its platform and the models refuse: what each refusal means to a client, what is tried a
//! second time, and what `/readyz` and the doctor say of it.

use crate::simulator::{Fault, Simulator, Step};
use crate::support::stepped::{SILENT, Stepped};
use crate::support::{Directory, Program, Response, Start, start, start_stepped, user};
use serde_json::{Value, json};

/// LangFast's new public key.
const NEW_KEY: &str = "sb_publishable_0123456789abcdef";

/// A model's words about a parameter.
const REFUSAL: &str = "Unsupported parameter: 'temperature' is not supported with this model.";

fn message(response: &Response) -> String {
    response.error()["message"].as_str().unwrap().to_owned()
}

/// Status, code and `x-should-retry` of an error.
fn told(response: &Response) -> (u16, Value, Option<&str>) {
    (response.status, response.error()["code"].clone(), response.header("x-should-retry"))
}

fn has_lost_its_key(response: &Response) {
    let (status, code, should_retry) = told(response);
    assert_eq!((status, code), (503, json!("upstream_key_refused")), "{}", response.text());
    assert_eq!(should_retry, Some("false"));
    let message = message(response);
    for part in ["public key", "apikey", "supabase.co", "--anon-key", "LANGFAST2API_ANON_KEY"] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

// The public key.

#[test]
fn a_disabled_key_is_one_error_whatever_step_it_is_met_at_and_nothing_is_renewed() {
    let (simulator, program) = start();
    assert_eq!(program.ask("Hi").content(), "Hi");
    simulator.change_key(NEW_KEY);
    for _ in 0..3 {
        has_lost_its_key(&program.ask("Hi"));
        has_lost_its_key(&program.ask_stream("Hi"));
    }
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes, stats.refused_refreshes), (1, 0, 0));
    assert_eq!(program.get("/readyz").error()["code"], "upstream_key_refused");

    // At the sign-in, and with the session that is kept when it has to be renewed.
    let fresh = Program::start(&simulator.url());
    has_lost_its_key(&fresh.ask("Hi"));
    has_lost_its_key(&fresh.get("/readyz"));
    let log = fresh.stop();
    assert!(!log.contains("signing in anew"), "{log}");
    assert_eq!(simulator.stats().signups, 1);
}

#[test]
fn each_text_of_a_refused_key_means_the_same() {
    for (step, body) in [
        (Step::SignUp, json!({"message": "Invalid API key", "hint": "Double check your key."})),
        (Step::SignUp, json!({"message": "Unregistered API key"})),
        (Step::SignUp, json!({"code": "UNAUTHORIZED_LEGACY_JWT", "message": "Invalid JWT"})),
        (Step::CreatePrompt, json!({"message": "Legacy API keys are disabled"})),
        (Step::Run, json!({"hint": "Your legacy API keys were disabled"})),
    ] {
        let (simulator, program) = start();
        simulator.fault(step, Fault::status(401).body(&body.to_string()).times(100));
        has_lost_its_key(&program.ask("Hi"));
        assert_eq!(simulator.stats().refreshes, 0, "{body}");
    }
    let (simulator, program) = start();
    simulator.fault(Step::Connect, Fault::refuse("Invalid API key").times(100));
    has_lost_its_key(&program.ask("Hi"));
    assert_eq!(simulator.stats().refreshes, 0);
}

#[test]
fn a_key_that_is_accepted_again_ends_the_trouble() {
    let (simulator, program) = start();
    let disabled = json!({"message": "Legacy API keys are disabled"}).to_string();
    assert_eq!(program.ask("Hi").content(), "Hi");
    simulator.fault(Step::Run, Fault::status(401).body(&disabled));
    has_lost_its_key(&program.ask("Hi"));
    assert_eq!(program.get("/readyz").status, 503);
    assert_eq!(program.ask("Hi").content(), "Hi");
    assert_eq!(program.get("/readyz").status, 200);
}

#[test]
fn a_publishable_key_serves_all_steps_and_is_no_bearer() {
    let simulator = Simulator::start();
    simulator.change_key(NEW_KEY);
    let with_key = |start: Start| start.env("LANGFAST2API_ANON_KEY", NEW_KEY);
    let program = with_key(Start::new(&simulator.url())).start();
    assert_eq!(program.ask("Hi").content(), "Hi");
    simulator.expire_tokens();
    assert_eq!(program.ask("Hi").content(), "Hi");
    let stats = simulator.stats();
    assert_eq!((stats.signups, stats.refreshes, stats.runs), (1, 1, 2));

    let account = with_key(Start::new(&simulator.url()))
        .env("LANGFAST2API_EMAIL", "user@example.com")
        .env("LANGFAST2API_PASSWORD", "correct-password")
        .start();
    assert_eq!(account.ask("Hi").content(), "Hi");
    assert_eq!(simulator.stats().password_logins, 1);
}

#[test]
fn a_secret_key_is_refused_at_the_start_and_not_repeated() {
    // `{"role":"service_role"}`
    let legacy = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2lnbmF0dXJl";
    for key in ["sb_secret_0123456789", legacy] {
        let start = Start::new("http://127.0.0.1:1").env("LANGFAST2API_ANON_KEY", key);
        let (status, output, log) = start.run();
        assert_eq!(status.code(), Some(2));
        assert!(log.contains("secret key") && log.contains("LANGFAST2API_ANON_KEY"), "{log}");
        assert!(!format!("{output}{log}").contains(key), "{log}");
    }
}

// Models and plans.

#[test]
fn a_model_that_is_gone_is_not_found_from_whichever_step_it_comes() {
    let gone = [
        "The model `gpt-4o` has been deprecated, learn more here: https://platform.openai.com/x",
        "The model `gpt-4o` does not exist or you do not have access to it.",
        "DeploymentNotFound",
    ];
    for words in gone {
        for step in [Step::CreatePrompt, Step::Run] {
            let (simulator, program) = start();
            let body = json!({ "error": words }).to_string();
            simulator.fault(step, Fault::status(400).body(&body).times(100));
            is_not_found(&program.ask("Hi"), words);
            is_not_found(&program.ask_stream("Hi"), words);
            assert_eq!(simulator.stats().runs, 0);
        }
        let (simulator, program) = start();
        let failing = format!("/sim error={}", words.replace(' ', "%20"));
        is_not_found(&program.ask(&failing), words);
        is_not_found(&program.ask_stream(&failing), words);
        assert_eq!(simulator.stats().runs, 2, "it is not tried again");
    }
}

fn is_not_found(response: &Response, words: &str) {
    assert_eq!(told(response), (404, json!("model_not_found"), Some("false")), "{words}");
    assert_eq!(response.error()["param"], "model");
    let message = message(response);
    for part in [words, "--model-aliases", "GET /v1/models", "models --import"] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn a_refusal_with_the_status_of_success_is_one_all_the_same() {
    let (simulator, program) = start();
    let words = "The model `gpt-4o` does not exist";
    let body = json!({ "error": words }).to_string();
    simulator.fault(Step::Run, Fault::status(200).body(&body));
    is_not_found(&program.ask("Hi"), words);
}

#[test]
fn a_model_of_another_plan_is_a_403_of_its_own_and_a_spent_quota_stays_one() {
    let (simulator, program) = start();
    for (status, words) in
        [(402, "This model requires a Pro plan"), (403, "Upgrade to Pro to use it")]
    {
        let body = json!({ "error": words }).to_string();
        simulator.fault(Step::Run, Fault::status(status).body(&body));
        let response = program.ask("Hi");
        assert_eq!(told(&response), (403, json!("plan_required"), Some("false")), "{words}");
        assert_eq!(response.error()["type"], "permission_error");
        assert!(message(&response).contains("langfast2api login"));
    }
    let words = r#"{"error":"Monthly limit reached. Upgrade to Pro"}"#;
    simulator.fault(Step::Run, Fault::status(402).body(words));
    assert_eq!(program.ask("Hi").error()["code"], "insufficient_quota");
}

#[test]
fn other_dialects_are_told_of_a_missing_model_in_their_own_words() {
    let (_simulator, program) = start();
    let content = "/sim error=The%20model%20`x`%20does%20not%20exist";
    let post = |path: &str, body: Value| {
        program.request(
            "POST",
            path,
            "Content-Type: application/json\r\n",
            body.to_string().as_bytes(),
        )
    };
    let messages = json!([{"role": "user", "content": content}]);
    let anthropic =
        post("/v1/messages", json!({"model": "gpt-4o", "max_tokens": 9, "messages": messages}));
    assert_eq!(
        (anthropic.status, anthropic.error()["type"].clone()),
        (404, json!("not_found_error"))
    );
    let responses = post("/v1/responses", json!({"model": "gpt-4o", "input": content}));
    assert_eq!(told(&responses), (404, json!("model_not_found"), Some("false")));
}

// The platform.

#[test]
fn a_restricted_project_is_langfasts_matter_and_not_the_users_quota() {
    let words = "Service for this project is restricted due to the following violations: \
                 exceed_egress_quota. The project owner must upgrade their plan";
    for step in [Step::SignUp, Step::CreatePrompt, Step::Run] {
        let (simulator, program) = start();
        let body = json!({ "message": words }).to_string();
        simulator.fault(step, Fault::status(402).body(&body).times(100));
        let response = program.ask("Hi");
        assert_eq!(told(&response), (503, json!("upstream_unavailable"), Some("false")));
        assert!(message(&response).contains("not your quota"), "{}", message(&response));
    }
}

#[test]
fn what_the_platform_of_functions_says_in_its_header_has_the_right_status() {
    for (status, code, expected, should_retry) in [
        (504, "IDLE_TIMEOUT", (504, "timeout"), Some("false")),
        (546, "WORKER_LIMIT", (503, "upstream_unavailable"), Some("false")),
        (546, "", (503, "upstream_unavailable"), Some("false")),
        (500, "WORKER_ERROR", (503, "upstream_unavailable"), Some("false")),
        (404, "NOT_FOUND", (502, "upstream_error"), Some("false")),
    ] {
        let (simulator, program) = start();
        let fault = Fault::status(status).header("sb-error-code", code).body("<html>");
        simulator.fault(Step::Run, fault);
        let response = program.ask("Hi");
        assert_eq!(told(&response), (expected.0, json!(expected.1), should_retry), "{code}");
        let message = message(&response);
        assert!(message.contains("function") && message.contains(code), "{message}");
        assert_eq!(simulator.stats().runs, 0, "it may have been started: not once more");
    }
}

#[test]
fn a_function_that_is_gone_says_so_and_no_other_prompt_is_made_for_it() {
    let (simulator, program) = start();
    assert_eq!(program.ask("Hi").content(), "Hi");
    let body = r#"{"code":"NOT_FOUND","message":"There is no function initiate-prompt-run"}"#;
    simulator.fault(Step::Run, Fault::status(404).header("sb-error-code", "NOT_FOUND").body(body));
    let message = message(&program.ask("Hi"));
    assert!(message.contains("renamed") && message.contains("newer version"), "{message}");
    assert_eq!(simulator.stats().prompts, 1);
}

#[test]
fn a_page_in_the_functions_place_and_a_redirect_say_what_has_happened() {
    let (simulator, program) = start();
    simulator.fault(Step::Run, Fault::status(404).body("<html><h1>Not Found</h1></html>"));
    let gone = message(&program.ask("One"));
    assert!(gone.contains("renamed") && gone.contains("newer version"), "{gone}");
    let login = Fault::status(302).header("location", "https://langfa.st/login?next=secret");
    simulator.fault(Step::Run, login);
    let moved = message(&program.ask("Two"));
    assert!(moved.contains("redirects to langfa.st/login") && !moved.contains("secret"), "{moved}");
}

#[test]
fn an_answer_of_success_that_says_no_is_a_refusal_and_a_row_of_a_prompt_is_one() {
    let (simulator, program) = start();
    let row = r#"[{"id":"11111111-2222-4333-8444-555555555555","name":"api-1"}]"#;
    simulator.fault(Step::CreatePrompt, Fault::status(200).body(row));
    let named = message(&program.ask("Hi"));
    assert!(named.contains("no prompt 11111111-2222"), "the run names the row's id: {named}");
    for (body, expected) in [
        (r#"{"success":false,"message":"Daily limit reached"}"#, (429, "insufficient_quota")),
        (r#"{"jobs":[{"job_id":"j","error":"boom"}]}"#, (502, "upstream_error")),
    ] {
        let (simulator, program) = start();
        simulator.fault(Step::Run, Fault::status(200).body(body));
        let response = program.ask("Hi");
        let expected = (expected.0, json!(expected.1), Some("false"));
        assert_eq!(told(&response), expected, "{body}: {}", response.text());
    }
}

#[test]
fn a_function_that_did_not_start_is_called_again_and_sdks_may_do_so_too() {
    let fault = || Fault::status(503).header("sb-error-code", "BOOT_ERROR").body("{}");
    let (simulator, program) = start();
    simulator.fault(Step::Run, fault());
    assert_eq!(program.ask("Hi").content(), "Hi");
    simulator.fault(Step::Run, fault().times(2));
    let response = program.ask("Hi");
    assert_eq!(told(&response), (503, json!("upstream_unavailable"), None));
    assert_eq!(response.header("retry-after"), Some("1"));
}

#[test]
fn auths_errors_are_understood_in_both_of_its_versions_and_by_its_header() {
    for fault in [
        Fault::status(422).body(r#"{"code":"anonymous_provider_disabled","message":"no"}"#),
        Fault::status(422).body(r#"{"code":422,"error_code":"anonymous_provider_disabled"}"#),
        Fault::status(422).header("x-sb-error-code", "anonymous_provider_disabled").body("no"),
    ] {
        let (simulator, program) = start();
        simulator.fault(Step::SignUp, fault);
        assert_eq!(program.ask("Hi").error()["code"], "sign_in_required");
    }
}

#[test]
fn a_token_of_the_future_is_tried_again_as_it_is() {
    let body = r#"{"code":"PGRST303","message":"JWT issued at future"}"#;
    for step in [Step::CreatePrompt, Step::Run] {
        let (simulator, program) = start();
        simulator.fault(step, Fault::status(401).body(body));
        assert_eq!(program.ask("Hi").content(), "Hi", "{step:?}");
        let stats = simulator.stats();
        assert_eq!((stats.signups, stats.refreshes, stats.runs), (1, 0, 1));
    }
    let (simulator, program) = start();
    simulator.fault(Step::Connect, Fault::refuse("jwt issued at future"));
    assert_eq!(program.ask("Hi").content(), "Hi");
    assert_eq!(simulator.stats().refreshes, 0);
}

#[test]
fn a_token_that_stays_one_of_the_future_is_given_up_after_a_while_and_may_be_tried_again() {
    let body = r#"{"code":"PGRST303","message":"JWT issued at future"}"#;
    let (simulator, program) = start();
    simulator.fault(Step::Run, Fault::status(401).body(body).times(100));
    let response = program.ask("Hi");
    assert_eq!(told(&response), (503, json!("upstream_unavailable"), None));
    assert_eq!(simulator.stats().refreshes, 0);
}

#[test]
fn a_login_that_is_demanded_is_asked_for() {
    let (simulator, program) = start();
    let fault = Fault::status(403).body(r#"{"error":"Please log in to run prompts"}"#);
    simulator.fault(Step::Run, fault);
    let response = program.ask("Hi");
    assert_eq!(told(&response), (503, json!("sign_in_required"), Some("false")));
    assert!(message(&response).contains("langfast2api login"));
}

// The doctor.

/// The message of the first line that has failed, and the advice below it.
fn first_failure(simulator: &Simulator, args: &[&str], state: &Directory) -> (String, String) {
    let start = Start::new(&simulator.url()).state_dir(state.path()).args(["doctor", "--sign-in"]);
    let (status, text, _) = start.args(args).run();
    assert_eq!(status.code(), Some(1), "{text}");
    let mut lines = text.lines().skip_while(|line| !line.trim_start().starts_with("FAILED"));
    let line = lines.next().unwrap_or_else(|| panic!("a failed line in {text}"));
    let advice = lines.next().unwrap().trim_start();
    let advice = advice.strip_prefix("→ ").unwrap_or_else(|| panic!("an advice in {text}"));
    (line.to_owned(), advice.to_owned())
}

#[test]
fn the_doctors_first_failing_line_names_the_cause_and_the_next_the_remedy() {
    let restricted = json!({"message": "Service for this project is restricted: overdue_payment"});
    let no_anonymous = json!({"code": 422, "error_code": "anonymous_provider_disabled"});
    let status = |status, body: &Value| Fault::status(status).body(&body.to_string()).times(9);
    let captcha = json!({"code": 400, "error_code": "captcha_failed", "msg": "captcha protection"});
    let said = |words: &str| json!({ "error": words });
    let gone = said("The model `gpt-5` has been deprecated, learn more here: https://x");
    // The first is a key that was changed.
    let situations = [
        (None, "public key", "--anon-key"),
        (
            Some((Step::SignUp, status(422, &no_anonymous))),
            "no longer lets anonymous visitors in",
            "langfast2api login",
        ),
        (Some((Step::SignUp, status(400, &captcha))), "captcha", "login --refresh-token"),
        (
            Some((Step::Run, status(403, &said("Please log in")))),
            "Please log in",
            "langfast2api login",
        ),
        (Some((Step::Run, status(400, &gone))), "has been deprecated", "--import"),
        (
            Some((Step::Run, status(403, &said("Upgrade to Pro to use gpt-5")))),
            "Upgrade to Pro",
            "Take another model",
        ),
        (
            Some((Step::SignUp, status(402, &restricted))),
            "restricted by its host",
            "not your quota",
        ),
        (
            Some((Step::Run, status(503, &json!({"code": "BOOT_ERROR"})))),
            "function did not start",
            "try again in a moment",
        ),
        (
            Some((Step::Run, status(404, &json!({"code": "NOT_FOUND"})))),
            "renamed or removed",
            "newer version",
        ),
        (
            Some((Step::Connect, Fault::status(503).times(9))),
            "connect to the prompt runner",
            "is down",
        ),
        (
            Some((Step::Connect, Fault::status(200).times(9))),
            "connect to the prompt runner",
            "LANGFAST2API_RUNNER_URL",
        ),
        (
            Some((Step::Connect, Fault::refuse("Unauthorized").times(9))),
            "a user who is logged in",
            "langfast2api login",
        ),
        (
            Some((Step::Run, status(400, &said("Anonymous users cannot run prompts")))),
            "a user who is logged in",
            "langfast2api login",
        ),
        (
            Some((Step::Run, status(500, &said("You have reached your monthly limit")))),
            "monthly limit",
            "renews the quota",
        ),
    ];
    for (fault, cause, remedy) in situations {
        let (simulator, state) = (Simulator::start(), Directory::new());
        match fault {
            Some((step, fault)) => simulator.fault(step, fault),
            None => simulator.change_key(NEW_KEY),
        }
        let (line, advice) = first_failure(&simulator, &["--run"], &state);
        assert!(line.contains(cause), "{cause} in {line}");
        assert!(advice.contains(remedy), "{remedy} in {advice}");
        assert!(!line.contains(remedy), "the remedy has a line of its own: {line}");
    }
}

#[test]
fn the_doctor_says_what_langfast_has_changed_of_its_events_and_what_can_be_done() {
    for (sim, change) in [
        ("", None),
        ("event=run:text", Some("event `run:text` is not known")),
        ("field=output", Some("field `output` in `execution:chunk` is not known")),
        ("pieces=1", Some("`content` of `execution:chunk` does not go on from the one before")),
    ] {
        let simulator = Simulator::start();
        simulator.turn(json!({"text": "one two three four", "sim": format!("events=4 {sim}")}));
        let (status, text, _) =
            Start::new(&simulator.url()).args(["doctor", "--sign-in", "--run"]).run();
        assert!(status.success(), "it is taken as it comes: {text}");
        let mut lines = text.lines().skip_while(|line| !line.contains("LangFast has changed"));
        let (line, advice) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        match change {
            Some(change) => assert!(line.contains(change), "{change} in {text}"),
            None => assert_eq!(line, "", "{text}"),
        }
        assert_eq!(advice.contains("--capture FILE"), change.is_some(), "{text}");
    }
}

#[test]
fn a_runner_that_nothing_listens_for_is_told_from_a_network_that_is_down() {
    let simulator = Simulator::start();
    let start = Start::new(&simulator.url()).arg("--runner-url").arg("http://127.0.0.1:1");
    let (_, text, _) = start.args(["doctor", "--sign-in"]).run();
    assert!(text.contains("the prompt runner is down"), "{text}");
}

// Parameters.

/// A request that a model refuses for these parameters, and what else is in it.
fn refusing(names: &str, more: &str, fields: Value) -> Value {
    let mut whole = user(&format!("/sim say=Hi refuse={names} {more}"));
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    whole
}

/// What the simulator was sent as this parameter, run by run.
fn sent(simulator: &Simulator, parameter: &str) -> Vec<Value> {
    simulator.runs().iter().map(|run| run["prompt_meta"][parameter].clone()).collect()
}

fn ignored(response: &Response) -> Option<&str> {
    response.header("x-langfast2api-ignored")
}

#[test]
fn a_parameter_that_the_model_refuses_is_left_out_of_a_second_run_and_then_of_all() {
    for more in ["", "error_as=string", "http=400", "http=500"] {
        for stream in [false, true] {
            let (simulator, program) = start();
            let fields = json!({"temperature": 0.2, "top_p": 0.5, "stream": stream});
            let ask = || program.chat(refusing("temperature", more, fields.clone()));
            for runs in [2, 3, 4] {
                let response = ask();
                assert_eq!(response.status, 200, "{more}: {}", response.text());
                assert_eq!(ignored(&response), Some("temperature"), "{more}");
                assert_eq!(simulator.stats().runs, runs, "the second run is made once: {more}");
            }
            let (none, half) = (Value::Null, json!(0.5));
            assert_eq!(
                sent(&simulator, "temperature"),
                [&json!(0.2), &none, &none, &none].map(Value::clone)
            );
            assert_eq!(sent(&simulator, "top_p"), [&half, &half, &half, &half].map(Value::clone));
            // Another model may take it.
            let mut other = refusing("seed", "", fields.clone());
            other["model"] = json!("gpt-4.1");
            assert_eq!(ignored(&program.chat(other)), None);
        }
    }
}

#[test]
fn a_key_in_the_place_of_a_models_name_does_not_reach_the_log() {
    let (_simulator, program) = start();
    let limit = json!({"model": "eyJhbGciOiJIUzI1NiJ9.x", "max_completion_tokens": 9});
    assert_eq!(program.chat(refusing("max_completion_tokens", "", limit)).status, 200);
    let log = program.stop();
    assert!(log.contains("refuses max_completion_tokens") && !log.contains("eyJ"), "{log}");
}

#[test]
fn a_stream_of_a_second_run_is_whole_and_counted_once() {
    let (_simulator, program) = start();
    let fields =
        json!({"temperature": 0.2, "stream": true, "stream_options": {"include_usage": true}});
    let (first, later) = (
        program.chat(refusing("temperature", "", fields.clone())),
        program.chat(refusing("temperature", "", fields)),
    );
    for response in [&first, &later] {
        assert_eq!(response.streamed_text(0), "Hi");
        assert_eq!(response.events().last().unwrap(), "[DONE]");
    }
    let usage = |response: &Response| response.chunks().last().unwrap()["usage"].clone();
    assert_eq!(usage(&first), usage(&later), "the refused run costs no tokens");
    assert_eq!(first.chunks().len(), later.chunks().len());
}

#[test]
fn each_choice_and_each_prompt_is_run_again() {
    let (simulator, program) = start();
    let response = program.chat(refusing("temperature", "", json!({"temperature": 0.2, "n": 3})));
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.json()["choices"].as_array().unwrap().len(), 3);
    assert_eq!((simulator.stats().runs, ignored(&response)), (6, Some("temperature")));

    let (simulator, program) = start();
    let prompt = ["/sim say=one refuse=top_p", "/sim say=two refuse=top_p"];
    let body =
        json!({"model": "gpt-4o", "prompt": prompt, "top_p": 0.5, "stream": true}).to_string();
    let headers = "Content-Type: application/json\r\n";
    let response = program.request("POST", "/v1/completions", headers, body.as_bytes());
    let text = |index: u64| -> String {
        let choices = response.chunks();
        let choices = choices.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap().clone());
        choices
            .filter(|c| c["index"] == index)
            .map(|c| c["text"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!((text(0), text(1)), ("one".to_owned(), "two".to_owned()));
    assert_eq!(simulator.stats().runs, 4);
}

#[test]
fn a_model_that_refuses_more_is_tried_three_times_and_the_rest_is_learnt_by_the_next_request() {
    let (simulator, program) = start();
    let names = "temperature,top_p,presence_penalty,frequency_penalty";
    let fields = json!({
        "temperature": 0.2, "top_p": 0.5, "presence_penalty": 0.1, "frequency_penalty": 0.1,
    });
    let refused = program.chat(refusing(names, "", fields.clone()));
    assert_eq!(told(&refused), (400, json!("unsupported_parameter"), Some("false")));
    assert!(message(&refused).contains("presence_penalty"), "{}", message(&refused));
    assert_eq!(simulator.stats().runs, 3);
    let served = program.chat(refusing(names, "", fields));
    assert_eq!(served.content(), "Hi");
    assert_eq!(ignored(&served), Some("frequency_penalty, presence_penalty, temperature, top_p"));
    assert_eq!(simulator.stats().runs, 5);
}

#[test]
fn instructions_change_their_role_and_a_model_that_does_not_stream_answers_in_one_piece() {
    let (simulator, program) = start();
    let mut fields = refusing("system", "", json!({}));
    let instructions = json!({"role": "system", "content": "Be brief."});
    fields["messages"].as_array_mut().unwrap().insert(0, instructions);
    let response = program.chat(fields);
    assert_eq!((response.content(), ignored(&response)), ("Hi".to_owned(), None));
    let role = |run: &Value| run["prompt_meta"]["messages"][0]["role"].clone();
    assert_eq!(simulator.runs().iter().map(role).collect::<Vec<_>>(), ["system", "developer"]);

    let (simulator, program) = start();
    let error = "error=Unsupported%20value:%20'stream'%20does%20not%20support%20true%20with%20this%20model.";
    let response = program.chat(refusing("stream", error, json!({"stream": true})));
    assert_eq!(response.streamed_text(0), "Hi");
    assert_eq!(sent(&simulator, "stream"), [json!(true), Value::Null]);
}

#[test]
fn a_refused_value_leaves_the_parameters_other_values() {
    let (simulator, program) = start();
    let ask = |effort: &str, refuse: &str| {
        let error = "error=Invalid%20value:%20'minimal'.%20Supported%20values%20are:%20'low'.";
        let fields = json!({"model": "gpt-5", "reasoning_effort": effort});
        program.chat(refusing(refuse, error, fields))
    };
    let refused = ask("minimal", "reasoning_effort");
    assert_eq!((refused.content(), ignored(&refused)), ("Hi".to_owned(), Some("reasoning_effort")));
    assert_eq!(ignored(&ask("low", "none")), None);
    let efforts = [json!("minimal"), Value::Null, json!("low")];
    assert_eq!(sent(&simulator, "reasoning_effort"), efforts);
}

#[test]
fn as_many_tokens_as_the_model_gives_are_asked_for_once_it_has_said_how_many() {
    let (simulator, program) = start();
    let ask = |names: &str, tokens: u64| {
        let error = "error=max_tokens%20is%20too%20large:%209000.%20This%20model%20supports%20at%20most%\
                     204096%20completion%20tokens";
        program.chat(refusing(names, error, json!({"max_tokens": tokens})))
    };
    // The simulator refuses whatever it is told, so the second run is refused as well.
    assert_eq!(ask("max_completion_tokens", 9000).status, 200);
    assert_eq!(ask("none", 100).status, 200);
    let tokens = [json!(9000), json!(4096), Value::Null, Value::Null];
    assert_eq!(sent(&simulator, "max_completion_tokens"), tokens);
}

#[test]
fn a_form_of_answer_that_is_refused_is_asked_for_in_words_checked_and_named() {
    for stream in [false, true] {
        let (simulator, program) = start();
        let fields = json!({"response_format": {"type": "json_object"}, "stream": stream});
        let error = "error=Unknown%20parameter:%20'response_format'";
        let ask = |names: &str| program.chat(refusing(names, error, fields.clone()));
        for (names, runs) in [("response_format", 2), ("response_format", 3), ("none", 4)] {
            let response = ask(names);
            assert_eq!(
                (response.status, simulator.stats().runs),
                (200, runs),
                "{}",
                response.text()
            );
            assert_eq!(ignored(&response), Some("response_format"));
            let verdict = (!stream).then_some("not-json");
            assert_eq!(response.header("x-langfast2api-json"), verdict);
        }
        let last = simulator.runs().last().unwrap()["prompt_meta"]["messages"].clone();
        assert_eq!(last[1]["content"], "Answer with one JSON object and with nothing else.");
    }
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).arg("--strict").start();
    let fields = json!({"response_format": {"type": "json_object"}});
    let response = program.chat(refusing("response_format", "", fields));
    assert_eq!(told(&response), (400, json!("unsupported_parameter"), Some("false")));
    assert_eq!(simulator.stats().runs, 1);
}

#[test]
fn where_text_has_come_nothing_is_run_again() {
    let (simulator, program) = start();
    let fields = json!({"temperature": 0.2});
    let response = program.chat(refusing("temperature", "text=count fail=2", fields.clone()));
    assert_eq!((response.status, simulator.stats().runs), (400, 1));
    // Nothing was learnt of it either: models refuse before they write.
    let response = program.chat(refusing("temperature", "", fields));
    assert_eq!((response.status, simulator.stats().runs), (200, 3));
}

#[test]
fn nothing_is_run_again_with_strict_or_if_it_is_switched_off() {
    for args in [&["--strict"][..], &["--refused-parameters", "error"]] {
        let simulator = Simulator::start();
        let program = Start::new(&simulator.url()).args(args).start();
        for more in ["", "http=400"] {
            let response = program.chat(refusing("temperature", more, json!({"temperature": 0.2})));
            assert_eq!(told(&response), (400, json!("unsupported_parameter"), Some("false")));
            assert!(message(&response).contains("'temperature'"));
        }
        assert_eq!(simulator.stats().runs, 2, "{args:?}");
    }
}

#[test]
fn many_requests_learn_at_once_and_all_are_answered() {
    let (simulator, program) = start();
    let fields = refusing("temperature", "first=50", json!({"temperature": 0.2}));
    let mut held: Vec<_> = (0..12).map(|_| program.chat_connection(fields.clone())).collect();
    for connection in &mut held {
        let response = connection.response();
        assert_eq!(
            (response.content(), ignored(&response)),
            ("Hi".to_owned(), Some("temperature"))
        );
    }
    assert!(simulator.stats().runs <= 24);
    assert_eq!(program.chat(fields).status, 200);
    let last = sent(&simulator, "temperature").pop().unwrap();
    assert_eq!(last, Value::Null);
}

#[test]
fn a_repair_of_tool_calls_goes_without_what_was_refused() {
    let simulator = Simulator::start();
    let program = Start::new(&simulator.url()).arg("--tool-repair").start();
    let refusal = "refuse=temperature";
    simulator.turn(json!({"sim": refusal}));
    simulator.turn(json!({"calls": [{"name": "f", "arguments": {}}], "sim": refusal}));
    simulator.turn(json!({"calls": [{"name": "f", "arguments": {"a": "x"}}], "sim": refusal}));
    let a = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let mut fields = user("Hi");
    fields["temperature"] = json!(0.2);
    fields["tools"] = json!([{"type": "function", "function": {"name": "f", "parameters": a}}]);
    let response = program.chat(fields);
    assert_eq!(response.header("x-langfast2api-tools"), Some("repaired"), "{}", response.text());
    assert_eq!(ignored(&response), Some("temperature"));
    assert_eq!(sent(&simulator, "temperature"), [json!(0.2), Value::Null, Value::Null]);
}

#[test]
fn what_is_left_out_when_the_head_is_sent_already_is_in_the_log() {
    let (simulator, program) = start();
    let prompt = ["/sim say=one", "/sim say=two refuse=top_p first=300"];
    let body =
        json!({"model": "gpt-4o", "prompt": prompt, "top_p": 0.5, "stream": true}).to_string();
    let headers = "Content-Type: application/json\r\n";
    let response = program.request("POST", "/v1/completions", headers, body.as_bytes());
    assert!(response.text().contains("two") && response.text().ends_with("data: [DONE]\n\n"));
    assert_eq!((ignored(&response), simulator.stats().runs), (None, 3));
    program.wait_for_log("too late for x-langfast2api-ignored: top_p");
}

#[test]
fn a_second_try_that_cannot_be_started_is_not_for_clients_to_repeat() {
    for stream in [false, true] {
        let (simulator, program) = start_stepped();
        let mut fields = user(SILENT);
        fields
            .as_object_mut()
            .unwrap()
            .extend([("temperature".to_owned(), json!(0.2)), ("stream".to_owned(), json!(stream))]);
        let mut connection = program.chat_connection(fields);
        let run = Stepped::nth(&simulator, 1);
        simulator.fault(Step::Run, Fault::status(429).header("retry-after", "7"));
        run.emits(json!({"status": "failed", "error": REFUSAL}));
        let response = connection.response();
        assert_eq!(told(&response), (429, json!("rate_limit_exceeded"), Some("false")));
    }
}

#[test]
fn what_a_failing_event_tells_of_tokens_begins_no_stream_and_is_not_the_next_runs() {
    let usage = json!({"prompt_tokens": 70, "completion_tokens": 30});
    let (simulator, program) = start_stepped();
    let ask = |run: usize, error: &str, stream: bool| {
        let mut fields = user(SILENT);
        fields["temperature"] = json!(0.2);
        fields["stream"] = json!(stream);
        let connection = program.chat_connection(fields);
        let run = Stepped::nth(&simulator, run);
        run.emits(json!({"status": "failed", "error": error, "usage": usage}));
        connection
    };
    let response = ask(1, "The model `x` does not exist", true).response();
    assert_eq!(told(&response), (404, json!("model_not_found"), Some("false")));

    let mut connection = ask(2, REFUSAL, false);
    Stepped::nth(&simulator, 3).ends("one");
    let usage = &connection.response().json()["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(70), &json!(1)));
}

#[test]
fn a_client_that_leaves_during_the_second_try_is_noticed() {
    let (simulator, program) = start();
    let fields = refusing("temperature", "first=300", json!({"temperature": 0.2, "stream": true}));
    let connection = program.chat_connection(fields);
    simulator.wait_until(|stats| stats.runs == 2);
    drop(connection);
    program.wait_for_log("error=client_gone");
}
