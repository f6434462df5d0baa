//! What is known of LangFast's wire, as data: what a capture may show as it is, and what it is compared
//! with. Known was seen on the wire by at least one client; inferred follows from the platform (Supabase,
//! Socket.IO, Cloud Run, Cloudflare).

/// How the value at a place of the wire is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A word of the protocol: shown if it is short and like an identifier.
    Word,
    /// A model's name: as a word, but digits are usual in it.
    Model,
    /// A secret, or the id of a person or of a connection.
    Secret,
    /// An object that tells of a person: nothing in it is shown but keys that are known.
    Personal,
    /// Text of prompts and answers, which may grow from event to event.
    Text,
    /// Words for people about an error, where there is one; text elsewhere.
    Message,
    /// A point in time.
    Time,
    /// A number that tells nothing of a person.
    Count,
    /// Anything else.
    Other,
}

use Place::{Count, Message, Model, Personal, Secret, Text, Time, Word};

/// The places by the key at which a value stands. A key that is missing here is [`Place::Other`], or what
/// the ends in [`place_of`] say.
const PLACES: &[(Place, &str)] = &[
    (
        Word,
        "aal alg aud code error_code errorCode event finishReason finish_reason grant_type iss kind \
         level method object p_icon phase plan provider providers reasoning_effort \
         response_format role stage state status tier token_type typ type upgrades verbosity",
    ),
    (Model, "model slug modelId model_name"),
    (
        Secret,
        "access_token apikey api_key authorization captcha_token code_verifier cookie email \
         password phone pid provider_refresh_token provider_token refresh_token secret session \
         sid token",
    ),
    (Personal, "identities identity_data metadata raw_user_meta_data user_metadata variables"),
    (
        Text,
        "answer completion content delta description name output p_name prompt reasoning \
         response text title",
    ),
    (Message, "detail details error error_description hint message msg reason"),
    (Time, "auth_time exp iat nbf timestamp ts"),
    (
        Count,
        "attempt cost count duration expires_in frequency_penalty index latency limit maxPayload \
         pingInterval pingTimeout presence_penalty price progress remaining retry_after \
         temperature tokens top_p total",
    ),
];

/// Whether `word` is one of these, between which are blanks.
fn has(words: &str, word: &str) -> bool {
    words.split(' ').any(|known| known == word)
}

/// The words that are shown wherever a word may stand.
pub fn words() -> impl Iterator<Item = &'static str> {
    VOCABULARY.split(' ').chain(KEYS.split(' '))
}

/// The place of a value by its key.
pub fn place_of(key: &str) -> Place {
    let listed = PLACES.iter().find(|(_, keys)| has(keys, key));
    match listed {
        Some((place, _)) => *place,
        None if ["_at", "At"].iter().any(|end| key.ends_with(end)) => Time,
        None if ["_tokens", "Tokens", "_ms", "Ms", "_cost"]
            .iter()
            .any(|end| key.ends_with(end)) =>
        {
            Count
        }
        None => Place::Other,
    }
}

/// Words that are shown wherever a word may stand, though a secret should contain them.
const VOCABULARY: &str = "\
    execution:chunk completion_finished in_progress completed failed error cancelled done stop \
    length content_filter authenticated anonymous bearer email phone password otp oauth anon \
    user system developer assistant openai jwt hs256 es256 rs256 aal1 \
    anonymous_provider_disabled bad_json bad_jwt captcha_failed conflict email_not_confirmed \
    invalid_credentials no_authorization over_request_rate_limit refresh_token_already_used \
    refresh_token_not_found request_timeout session_expired session_not_found signup_disabled \
    unexpected_failure user_banned user_not_found validation_failed pgrst301 pgrst302 pgrst303 \
    pgrst000 pgrst001 pgrst002 unauthorized_legacy_jwt unauthorized_invalid_jwt_format \
    unauthorized_asymmetric_jwt idle_timeout boot_error worker_limit worker_error not_found text \
    json_object json_schema minimal low medium high application json html plain charset utf-8 \
    utf8 websocket upgrade keep-alive close gzip br identity chunked cloudflare google frontend \
    no-store no-cache max-age private public must-revalidate dynamic origin accept-encoding true \
    nosniff supabase";

/// Keys of objects that are shown as they are.
const KEYS: &str = "\
    access_token aud amr app_metadata confirmation_sent_at confirmed_at content created_at \
    created_by data email email_confirmed_at executionId expires_at expires_in finish_reason \
    gotrue_meta_security id identities is_anonymous job_id jobs last_sign_in_at \
    max_completion_tokens maxPayload messages model msg name p_icon p_meta p_name p_test_cases \
    password phone pingInterval pingTimeout prompt_id prompt_meta provider providers \
    refresh_token role run_id session_id sid status stream sub test_cases token token_type \
    upgrades user user_metadata variables weak_password";

/// Texts for people that are shown as they are; their words are the dictionary by which others are shown.
pub const MESSAGES: &[&str] = &[
    "Legacy API keys are disabled",
    "Your legacy API keys (anon, service_role) were disabled on",
    "Re-enable them in the Supabase dashboard, or use the new publishable and secret API keys",
    "Invalid API key",
    "Unregistered API key",
    "Double check your Supabase anon or service_role API key.",
    "Double check the provided API key as it is not registered for this project.",
    "No API key found in request",
    "No `apikey` request header or url param was found.",
    "JWT expired",
    "jwt expired",
    "JWT issued at future",
    "No suitable key was found to decode the JWT",
    "Invalid JWT",
    "Invalid login credentials",
    "Invalid Refresh Token: Refresh Token Not Found",
    "Invalid Refresh Token: Already Used",
    "Anonymous sign-ins are disabled",
    "Signups not allowed for this instance",
    "Request rate limit reached",
    "captcha protection: request disallowed (no captcha_token found)",
    "captcha verification process failed",
    "Email not confirmed",
    "Session not found",
    "User is banned",
    "Missing authorization header",
    "Unauthorized",
    "Forbidden",
    "Not Found",
    "Bad Gateway",
    "Service Unavailable",
    "Gateway Timeout",
    "Too Many Requests",
    "Internal Server Error",
    "Function failed to start (please check logs)",
    "Unsupported parameter: 'temperature' is not supported with this model.",
    "Unsupported value: does not support with this model. Only the default (1) value is supported.",
    "The model does not exist or you do not have access to it.",
    "The model has been deprecated, learn more here:",
    "You exceeded your current quota, please check your plan and billing details.",
    "daily limit reached",
    "This model's maximum context length is tokens.",
    "Service for this project is restricted due to the following violations:",
    "Please sign in to continue",
];

/// Further words of such texts.
pub const MESSAGE_WORDS: &str = "\
    a about account accounts action after again all allow allowed already an \
    anonymous any are argument as at authenticated authentication authorized available be because been \
    before body browser busy but by call can cannot cancelled canceled change changed closed code completed \
    configured connection connections contact content context could create created creation credentials \
    credit credits deadline deleted denied deprecated did different disabled does down due during email \
    empty enable enabled end ended endpoint enough error errors event exceed exceeded exceeds exhausted \
    exist exists expected expired external fail failed failure field fields filter for format found free \
    from function get given had has have header hour http id if in incorrect initiate input internal \
    invalid is issue it its job jobs json later length limit limited limits link log logged login long \
    longer many maximum may message messages method minute minutes missing model models month monthly more \
    must name need namespace new no not now null number of off on once only operation or org organization \
    out output over overdue overloaded page parameter parameters parse password past paused payment \
    permission plan platform please premium price pro problem project prompt prompts provided provider \
    quota rate reached read reason refused region rejected released removed request requests \
    required requires reset resource response restricted retry retired role row rows run runner running \
    runs safety schema second seconds secure security sent server service session shut shutdown sign \
    signature signed some something started status still stopped stream subscribe subscription support \
    supported suspended system temporarily temporary that the their there this time timed timeout to token \
    tokens too try type unable unavailable undefined unexpected unknown unlimited unsupported until upgrade \
    upstream usage use used user users using valid value values verification version violates visit wait \
    was website week went were when with within without worker wrong yet you your \
    frequency_penalty max_completion_tokens max_tokens presence_penalty reasoning_effort response_format \
    test_cases top_p verbosity anon apikey captcha captcha_token supabase langfast openai azure";

/// Hosts that are shown as they are: LangFast's own (known), its platform's, and OpenAI's pages.
pub const HOSTS: &[&str] = &[
    "langfa.st",
    "platform.openai.com",
    "langfast-prompt-runner-35808038077.us-central1.run.app",
    "yzaaxwkjukajpwqflndu.supabase.co",
    "supabase.com",
];

/// How a header's value is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// Shown if each of its words is in the vocabulary, or a short number.
    Words,
    /// Shown if it is like an identifier.
    Identifier,
    /// Shown if it is a number.
    Number,
    /// A point in time.
    Date,
    /// A URL, of which a part may be shown.
    Url,
    /// Never shown.
    Hidden,
}

/// The headers that are known: what our requests carry, and what the platforms put into answers
/// (inferred).
const HEADERS: &[(HeaderValue, &str)] = &[
    (
        HeaderValue::Words,
        "accept-encoding accept-ranges access-control-allow-credentials access-control-allow-headers \
         access-control-allow-methods access-control-allow-origin access-control-expose-headers \
         access-control-max-age cache-control connection content-encoding content-type pragma \
         server transfer-encoding upgrade vary x-content-type-options x-frame-options \
         referrer-policy",
    ),
    (
        HeaderValue::Identifier,
        "cf-cache-status cf-mitigated proxy-status sb-error-code x-sb-error-code \
         x-supabase-api-version",
    ),
    (
        HeaderValue::Number,
        "age retry-after x-envoy-upstream-service-time x-kong-proxy-latency \
         x-kong-upstream-latency x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset \
         sec-websocket-version",
    ),
    (HeaderValue::Date, "date expires last-modified"),
    (HeaderValue::Url, "location origin referer content-location"),
    (
        HeaderValue::Hidden,
        "alt-svc apikey authorization cf-ray content-length content-range content-profile \
         content-security-policy etag nel report-to sb-gateway-mode sb-gateway-version \
         sb-project-ref sb-request-id sec-websocket-accept server-timing set-cookie \
         strict-transport-security traceparent via x-cloud-trace-context x-deno-execution-id \
         x-envoy-attempt-count x-sb-request-id x-served-by x-xss-protection",
    ),
];

/// How the value of a header is treated; `None` if the header is not known.
pub fn header(name: &str) -> Option<HeaderValue> {
    HEADERS.iter().find(|(_, names)| has(names, name)).map(|(value, _)| *value)
}

/// An HTTP call, and what its good answer holds.
pub struct Call {
    /// Method and path, the query included.
    pub request: &'static str,
    /// What a person calls it.
    pub name: &'static str,
    /// Paths of the answer's fields: `[]` for a list's elements, and all below a path that ends in `*`.
    pub answer: &'static [&'static str],
    /// Fields without which the answer cannot be used.
    pub needed: &'static [&'static str],
}

/// A session (known: anonymous; inferred: the user's other fields).
const SESSION: &[&str] = &[
    "access_token",
    "token_type",
    "expires_in",
    "expires_at",
    "refresh_token",
    "weak_password",
    "user",
    "user.id",
    "user.aud",
    "user.role",
    "user.email",
    "user.phone",
    "user.is_anonymous",
    "user.app_metadata*",
    "user.user_metadata*",
    "user.identities*",
    "user.created_at",
    "user.updated_at",
    "user.last_sign_in_at",
    "user.confirmed_at",
    "user.email_confirmed_at",
    "user.phone_confirmed_at",
    "user.confirmation_sent_at",
    "user.recovery_sent_at",
];
const SESSION_NEEDED: &[&str] = &["access_token", "refresh_token", "user.id"];

/// The calls of the way.
pub const CALLS: &[Call] = &[
    Call {
        request: "GET /auth/v1/health",
        name: "health",
        answer: &["version", "name", "description"],
        needed: &[],
    },
    Call {
        request: "POST /auth/v1/signup",
        name: "sign-up",
        answer: SESSION,
        needed: SESSION_NEEDED,
    },
    Call {
        request: "POST /auth/v1/token?grant_type=password",
        name: "sign-in by password",
        answer: SESSION,
        needed: SESSION_NEEDED,
    },
    Call {
        request: "POST /auth/v1/token?grant_type=refresh_token",
        name: "refresh",
        answer: SESSION,
        needed: SESSION_NEEDED,
    },
    Call {
        request: "POST /rest/v1/rpc/create_prompt",
        name: "create_prompt",
        answer: &[],
        needed: &[],
    },
    Call {
        request: "POST /functions/v1/initiate-prompt-run",
        name: "initiate-prompt-run",
        answer: &["run_id", "jobs", "jobs[].job_id"],
        needed: &["jobs[].job_id"],
    },
];

/// The handshake of the socket.
pub const SOCKET_PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// Whether a path, with its query, is one of the way's own.
pub fn is_path(path: &str) -> bool {
    let of_call =
        |call: &Call| call.request.split_once(' ').is_some_and(|(_, known)| known == path);
    path == SOCKET_PATH || CALLS.iter().any(of_call)
}

/// Texts that the program itself sends, and that are nobody's.
pub const OWN_TEXTS: &[&str] = &["API Test Case", "Created by langfast2api", "Say ok."];

/// Fields of an error's body, of Supabase Auth, PostgREST and the function.
pub const ERROR_FIELDS: &[&str] = &[
    "code",
    "error_code",
    "msg",
    "message",
    "details",
    "hint",
    "error",
    "error.message",
    "error.code",
    "error_description",
];

/// Statuses of an HTTP answer that the program has a meaning for.
pub const HTTP_STATUSES: &[u64] =
    &[200, 201, 400, 401, 402, 403, 404, 409, 410, 422, 429, 500, 502, 503, 504, 546];

/// An event of a run, and its payload's fields.
pub struct Event {
    /// Its name.
    pub name: &'static str,
    /// Paths of the payload's fields, as in [`Call::answer`].
    pub fields: &'static [&'static str],
}

/// What the payload of an event holds: the first four known, the error a guess of other clients.
const CHUNK: &[&str] =
    &["executionId", "status", "finish_reason", "content", "error", "error.message", "message"];

/// The events: `execution:chunk` is known, `completion_finished` a guess of other clients.
pub const EVENTS: &[Event] = &[
    Event { name: "execution:chunk", fields: CHUNK },
    Event { name: "completion_finished", fields: CHUNK },
];

/// Fields that may name a run or its job.
pub const ID_FIELDS: &[&str] =
    &["executionId", "execution_id", "jobId", "job_id", "runId", "run_id"];
/// Statuses of a run (known).
pub const RUN_STATUSES: &[&str] = &["in_progress", "completed"];
/// Reasons of an end (`stop` known, the others OpenAI's).
pub const FINISH_REASONS: &[&str] = &["stop", "length", "content_filter"];
/// Fields of Engine.IO's open packet and of Socket.IO's answer to CONNECT.
pub const OPEN_FIELDS: &[&str] = &["sid", "upgrades*", "pingInterval", "pingTimeout", "maxPayload"];
/// See [`OPEN_FIELDS`].
pub const CONNECT_FIELDS: &[&str] = &["sid"];
/// Packets of the server: Engine.IO's type, then Socket.IO's.
pub const PACKETS: &[&str] = &["0", "1", "2", "3", "40", "41", "42", "44"];
/// Close codes of the WebSocket: as usual, and going away.
pub const CLOSE_CODES: &[u64] = &[1000, 1001];
