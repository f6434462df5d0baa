//! Puts placeholders in place of what a capture may not show.
//!
//! What is shown is listed: words of the protocol, at the places where such words stand, and numbers that
//! tell of nobody. Any other value becomes a placeholder of its shape. The same value has the same
//! placeholder wherever it stands, so that it can be followed through a capture; and where one text goes
//! on from another, so does its placeholder. Placeholders of texts are made with a random key that is
//! thrown away: no guess at a text can be tried on them.

mod message;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use serde_json::{Map, Number, Value};

use super::known::{self, HeaderValue, Place, place_of};
use super::secrets::Secrets;
use super::words::{is_code, is_model, is_word};

/// Longest placeholder of a text, in characters.
const LONGEST: usize = 20_000;
/// Times in a capture are moved so that it begins at this one: the year 2000.
const BEGIN: Duration = Duration::from_secs(946_684_800);
/// Times further from the beginning than this are one and the same.
const FAR: Duration = Duration::from_secs(31 * 24 * 3600);
/// Largest number that is shown at any place.
const SMALL: u64 = 999;

/// Makes placeholders, and remembers those that are numbered.
pub struct Mask {
    secrets: Secrets,
    key: RandomState,
    numbers: HashMap<String, usize>,
    began: Duration,
    dictionary: HashSet<String>,
}

/// The surroundings of a value, as far as they decide what is shown of it.
#[derive(Clone, Copy)]
pub struct Around {
    /// Whether it belongs to an error, so that messages are words for people.
    pub error: bool,
}

impl Mask {
    /// Creates the mask of a capture that began at `began` and may not show `secrets`. The same `key` makes
    /// the same placeholders of texts.
    pub fn new(secrets: Secrets, key: RandomState, began: SystemTime) -> Mask {
        let words = known::MESSAGES.iter().chain([&known::MESSAGE_WORDS]);
        let words = words.flat_map(|text| text.split(|c: char| !(c.is_alphanumeric() || c == '_')));
        let dictionary = words.filter(|word| !word.is_empty());
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Mask {
            secrets,
            key,
            numbers: HashMap::new(),
            began: Duration::from_secs(began.as_secs()),
            dictionary: dictionary.map(str::to_lowercase).collect(),
        }
    }

    /// The secrets that are not shown.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// A JSON value with placeholders.
    pub fn value(&mut self, value: &Value, place: Place, around: Around) -> Value {
        match value {
            Value::Null | Value::Bool(_) => value.clone(),
            Value::Number(number) => self.number(number, place),
            Value::String(text) => Value::String(self.string(text, place, around)),
            Value::Array(values) => {
                values.iter().map(|value| self.value(value, place, around)).collect()
            }
            Value::Object(fields) => self.object(fields, place, around),
        }
    }

    fn object(&mut self, fields: &Map<String, Value>, place: Place, around: Around) -> Value {
        let mut masked = Map::new();
        for (key, value) in fields {
            let personal = place == Place::Personal;
            let name = if personal { self.personal_key(key) } else { self.key(key) };
            let own = if personal { Place::Personal } else { place_of(key) };
            let error = around.error || is_error(key, value);
            masked.insert(name, self.value(value, own, Around { error }));
        }
        Value::Object(masked)
    }

    /// The key of an object, which may be data itself.
    pub fn key(&mut self, key: &str) -> String {
        let is_shown =
            self.secrets.is_known_word(key) || (is_word(key) && !self.secrets.touch(key));
        if is_shown { key.to_owned() } else { self.shaped(key) }
    }

    fn personal_key(&mut self, key: &str) -> String {
        if self.secrets.is_known_word(key) { key.to_owned() } else { self.shaped(key) }
    }

    /// A string at a place.
    pub fn string(&mut self, text: &str, place: Place, around: Around) -> String {
        match place {
            Place::Word => self.word(text),
            Place::Model if is_model(text) && !self.secrets.touch(text) => text.to_owned(),
            Place::Message if around.error => self.message(text),
            Place::Message | Place::Text => self.text(text),
            Place::Personal | Place::Secret => self.secret(text),
            Place::Time | Place::Count | Place::Other | Place::Model => self.shaped(text),
        }
    }

    /// A word of the protocol.
    pub fn word(&mut self, text: &str) -> String {
        let is_like_one = is_word(text) || is_code(text);
        match self.secrets.is_known_word(text) || (is_like_one && !self.secrets.touch(text)) {
            true => text.to_owned(),
            false => self.shaped(text),
        }
    }

    /// A secret: of its shape if that is a known one, else with nothing of its length either.
    fn secret(&mut self, text: &str) -> String {
        match self.known_shape(text) {
            Some(placeholder) => placeholder,
            None if text.is_empty() => String::new(),
            None => format!("secret{:0>10}", self.number_of(text)),
        }
    }

    /// A value of any kind, by its shape.
    pub fn shaped(&mut self, text: &str) -> String {
        self.known_shape(text).unwrap_or_else(|| self.text(text))
    }

    fn known_shape(&mut self, text: &str) -> Option<String> {
        if text.is_empty() {
            return Some(String::new());
        }
        let shapes = [
            Mask::uuid,
            Mask::jwt,
            Mask::publishable_key,
            Mask::email,
            Mask::address,
            Mask::url,
            Mask::date,
            Mask::json_inside,
            Mask::digits,
            Mask::with_uuid_inside,
        ];
        shapes.into_iter().find_map(|shape| shape(self, text))
    }

    fn number_of(&mut self, value: &str) -> usize {
        let next = self.numbers.len() + 1;
        *self.numbers.entry(value.to_owned()).or_insert(next)
    }

    fn uuid(&mut self, text: &str) -> Option<String> {
        let id = uuid::Uuid::try_parse(text).ok()?;
        let number = self.number_of(&id.to_string());
        match text.len() {
            36 => Some(format!("00000000-0000-4000-8000-{number:012}")),
            32 => Some(format!("00000000000040008000{number:012}")),
            _ => None,
        }
    }

    /// A JWT, whose header and claims stay readable, with their names.
    fn jwt(&mut self, text: &str) -> Option<String> {
        let (head, claims) = jwt_parts(text)?;
        let around = Around { error: false };
        let [head, claims] = [head, claims].map(|part| {
            let masked = self.value(&part, Place::Other, around);
            BASE64_URL.encode(masked.to_string())
        });
        let signature = format!("signature{:0>23}", self.number_of(text));
        Some(format!("{head}.{claims}.{signature}"))
    }

    /// Supabase's keys that are no JWTs.
    fn publishable_key(&mut self, text: &str) -> Option<String> {
        let kind = ["sb_publishable_", "sb_secret_"].into_iter().find(|k| text.starts_with(k))?;
        Some(format!("{kind}{:0>30}", self.number_of(text)))
    }

    fn email(&mut self, text: &str) -> Option<String> {
        let (local, domain) = text.split_once('@')?;
        let is_one = !local.is_empty() && domain.contains('.') && !domain.contains('@');
        let is_one = is_one && !text.contains(|c: char| c.is_whitespace() || "<>{}\"/".contains(c));
        is_one.then(|| format!("person{}@example.invalid", self.number_of(&text.to_lowercase())))
    }

    fn address(&mut self, text: &str) -> Option<String> {
        match text.parse::<IpAddr>().ok()? {
            IpAddr::V4(_) => Some(format!("192.0.2.{}", self.number_of(text) % 256)),
            IpAddr::V6(_) => Some(format!("2001:db8::{}", self.number_of(text))),
        }
    }

    /// A URL: the host if it is known, the words of the path, and the query's names stay.
    fn url(&mut self, text: &str) -> Option<String> {
        let (scheme, rest) = text.split_once("://")?;
        if !["http", "https", "ws", "wss"].contains(&scheme) || text.contains(char::is_whitespace) {
            return None;
        }
        let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let host = match known::HOSTS.contains(&host) {
            true => host.to_owned(),
            false => format!("host{}.invalid", self.number_of(host)),
        };
        Some(format!("{scheme}://{host}{}", self.path(path)))
    }

    /// A path with its query and fragment.
    pub fn path(&mut self, path: &str) -> String {
        if known::is_path(path) {
            return path.to_owned();
        }
        let (path, query) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
        let segments: Vec<String> = path.split('/').map(|segment| self.segment(segment)).collect();
        let mut masked = segments.join("/");
        let mut separator = query.chars().next();
        for pair in query.split(['?', '#', '&']).skip(1) {
            masked.extend(separator);
            separator = Some('&');
            masked.push_str(&self.pair(pair));
        }
        masked
    }

    fn segment(&mut self, segment: &str) -> String {
        match segment {
            "" | "v1" | "v2" => segment.to_owned(),
            _ => self.key(segment),
        }
    }

    /// A `name=value` of a query.
    fn pair(&mut self, pair: &str) -> String {
        let Some((name, value)) = pair.split_once('=') else { return self.key(pair) };
        let decoded = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        let masked = match name {
            "EIO" | "transport" | "grant_type" => self.word(&decoded),
            // A redirect's `code` and `state` are secrets.
            _ => self.secret(&decoded),
        };
        let fits = masked.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:@".contains(&b));
        let masked = if fits { masked } else { format!("secret{}", self.number_of(&decoded)) };
        format!("{}={masked}", self.key(name))
    }

    /// A date and time, moved.
    fn date(&mut self, text: &str) -> Option<String> {
        if let Ok(time) = httpdate::parse_http_date(text) {
            return Some(httpdate::fmt_http_date(self.moved(time)));
        }
        if text.len() < 19 || !text.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let utc = text.trim_end_matches("+00:00").trim_end_matches('Z');
        let time = humantime::parse_rfc3339_weak(utc).ok()?;
        Some(humantime::format_rfc3339_seconds(self.moved(time)).to_string())
    }

    fn moved(&self, time: SystemTime) -> SystemTime {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let moved = match self.distance(since) {
            Some((ahead, true)) => BEGIN + ahead,
            Some((behind, false)) => BEGIN - behind,
            None => BEGIN - 2 * FAR,
        };
        SystemTime::UNIX_EPOCH + moved
    }

    /// How far a time is from the beginning, and whether it is later; `None` if it is too far.
    fn distance(&self, since: Duration) -> Option<(Duration, bool)> {
        let distance = since.abs_diff(self.began);
        (distance <= FAR).then_some((distance, since >= self.began))
    }

    /// JSON in a string, as some send payloads.
    fn json_inside(&mut self, text: &str) -> Option<String> {
        let value: Value = match text.starts_with('{') {
            true => serde_json::from_str(text).ok()?,
            false => return None,
        };
        Some(self.value(&value, Place::Other, Around { error: false }).to_string())
    }

    /// Digits, as of a telephone number.
    fn digits(&mut self, text: &str) -> Option<String> {
        let rest = text.strip_prefix('+').unwrap_or(text);
        let is_one =
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || b"-() ".contains(&b));
        is_one.then(|| self.spelled(text, |hash| char::from(b'0' + (hash % 10) as u8)))
    }

    /// Something around one UUID.
    fn with_uuid_inside(&mut self, text: &str) -> Option<String> {
        let bytes = text.as_bytes();
        let at = bytes.windows(36).position(|w| {
            w[8] == b'-'
                && w[13] == b'-'
                && std::str::from_utf8(w).is_ok_and(|w| uuid::Uuid::try_parse(w).is_ok())
        })?;
        let (before, rest) = text.split_at(at);
        let (id, after) = rest.split_at(36);
        let around = |mask: &mut Mask, text: &str| match text.contains(char::is_alphanumeric) {
            true => mask.key(text),
            false => text.to_owned(),
        };
        Some(format!("{}{}{}", around(self, before), self.uuid(id)?, around(self, after)))
    }

    /// A text of which each letter depends on all before it: what goes on from one text has a placeholder
    /// that goes on from that one's.
    pub fn text(&self, text: &str) -> String {
        self.spelled(text, |hash| char::from(b'a' + (hash % 26) as u8))
    }

    fn spelled(&self, text: &str, letter: impl Fn(u64) -> char) -> String {
        let mut hasher = self.key.build_hasher();
        let mut has_blanks = false;
        let spell = |c: char| {
            hasher.write_u32(u32::from(c));
            has_blanks |= c.is_whitespace();
            let hash = hasher.clone().finish();
            match c {
                // Half a character, which shows that the text was cut there.
                '\u{fffd}' => c,
                _ if has_blanks && hash % 7 == 0 => ' ',
                _ => letter(hash >> 8),
            }
        };
        text.chars().take(LONGEST).map(spell).collect()
    }

    fn number(&mut self, number: &Number, place: Place) -> Value {
        let text = number.to_string();
        if place == Place::Time {
            if let Some(moved) = number.as_u64().and_then(|time| self.moved_number(time)) {
                return moved.into();
            }
        }
        let is_shown = match (number.as_u64(), place) {
            (_, Place::Personal | Place::Secret) => false,
            (Some(whole), _) if whole <= SMALL => true,
            (Some(whole), Place::Word) => whole <= 99_999,
            (_, Place::Count) => true,
            _ => false,
        };
        if is_shown && !self.secrets.touch(&text) {
            return Value::Number(number.clone());
        }
        match number.as_u64() {
            Some(_) => {
                let digits = self.spelled(&text, |hash| char::from(b'0' + (hash % 10) as u8));
                // The first digit keeps it from being shorter, or too large.
                format!("1{}", &digits[1..]).parse::<u64>().unwrap_or(1).into()
            }
            None if number.is_i64() => (-1).into(),
            None => 0.5.into(),
        }
    }

    /// A time in seconds, milliseconds or microseconds, moved.
    fn moved_number(&self, time: u64) -> Option<u64> {
        [1, 1_000, 1_000_000].into_iter().find_map(|unit| {
            let since = Duration::from_secs(time / unit);
            self.distance(since)?;
            let moved = self.moved(SystemTime::UNIX_EPOCH + since);
            let moved = moved.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            Some(moved.as_secs() * unit)
        })
    }

    /// A header's value.
    pub fn header(&mut self, name: &str, value: &str) -> String {
        match known::header(name) {
            Some(HeaderValue::Words) if self.are_words(value) => value.to_owned(),
            Some(HeaderValue::Identifier) => self.word(value),
            Some(HeaderValue::Number) if self.is_number(value) => value.to_owned(),
            _ if ["authorization", "proxy-authorization"].contains(&name) => self.bearer(value),
            _ if ["apikey", "cookie", "set-cookie"].contains(&name) => self.secret(value),
            _ => self.shaped(value),
        }
    }

    fn are_words(&mut self, value: &str) -> bool {
        let mut words = value.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        words.all(|word| {
            word.is_empty()
                || known::header(&word.to_lowercase()).is_some()
                || self.secrets.is_known_word(word)
                || self.is_number(word)
        })
    }

    fn is_number(&mut self, value: &str) -> bool {
        is_short_number(value) && !self.secrets.touch(value)
    }

    fn bearer(&mut self, value: &str) -> String {
        match value.split_once(' ') {
            Some(("Bearer", token)) => format!("Bearer {}", self.secret(token)),
            _ => self.secret(value),
        }
    }
}

fn is_short_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 8 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether what stands under this key is about an error.
fn is_error(key: &str, value: &Value) -> bool {
    let is_said = !matches!(value, Value::Null | Value::Bool(false));
    ["error", "errors", "err"].contains(&key) && is_said
}

/// Header and claims of a JWT.
pub fn jwt_parts(text: &str) -> Option<(Value, Value)> {
    let mut parts = text.split('.');
    let (head, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || signature.contains(char::is_whitespace) {
        return None;
    }
    let object = |part: &str| {
        let bytes = BASE64_URL.decode(part.trim_end_matches('=')).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
    };
    Some((object(head)?, object(claims)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(super) fn mask() -> Mask {
        let mut secrets = Secrets::new();
        secrets.learn_text("tell me about the weather in Lisbon");
        Mask::new(secrets, RandomState::new(), SystemTime::now())
    }

    #[test]
    fn placeholders_have_the_shape_of_what_they_stand_for() {
        let mut mask = mask();
        let id = "550e8400-e29b-41d4-a716-446655440000";
        let one = mask.shaped(id);
        assert!(uuid::Uuid::try_parse(&one).is_ok());
        assert_eq!(mask.shaped(&id.to_uppercase()), one);
        assert_eq!(mask.shaped(&id.replace('-', "")), one.replace('-', ""));
        assert_eq!(mask.shaped(&format!("jobs:{id}")), format!("jobs:{one}"));
        assert!(mask.shaped("jo@example.org").ends_with("@example.invalid"));
        assert!(mask.shaped("203.0.113.77").starts_with("192.0.2."));
        assert!(mask.shaped("sb_publishable_abcdef").starts_with("sb_publishable_0"));
        assert!(mask.shaped("+441632960961").bytes().all(|b| b.is_ascii_digit()));
        let url = mask.shaped("https://auth.example/authorize/cb?code=letmein#state=maria");
        assert!(
            url.starts_with("https://host") && url.contains(".invalid/authorize/cb?code=secret"),
            "{url}"
        );
        assert!(!url.contains("letmein") && !url.contains("maria"), "{url}");
        let known = "https://platform.openai.com/docs/deprecations";
        assert_eq!(mask.shaped(known), known);
    }

    #[test]
    fn times_are_moved_together_and_those_far_off_are_all_one() {
        let mut mask = mask();
        let began = mask.began.as_secs();
        let around = Around { error: false };
        let value = json!({"iat": began, "exp": began + 3600, "expires_at": (began + 60) * 1000});
        let moved = mask.value(&value, Place::Other, around);
        let begin = BEGIN.as_secs();
        assert_eq!(
            moved,
            json!({"iat": begin, "exp": begin + 3600, "expires_at": (begin + 60) * 1000})
        );
        let [one, other] = ["2019-05-01T10:00:00.123456Z", "2021-07-02 11:00:00+00:00"];
        assert_eq!(mask.shaped(one), mask.shaped(other));
        let now = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(began + 5));
        assert_eq!(mask.header("date", &now), "Sat, 01 Jan 2000 00:00:05 GMT");
    }

    #[test]
    fn numbers_that_may_be_of_somebody_are_replaced_by_as_long_ones() {
        let mut mask = mask();
        let value = json!({"expires_in": 3600, "account": 48_151_623, "place": 42, "ratio": 0.37,
            "n": -5000});
        let masked = mask.value(&value, Place::Other, Around { error: false });
        assert_eq!((&masked["expires_in"], &masked["place"]), (&json!(3600), &json!(42)));
        assert_eq!(masked["account"].to_string().len(), 8);
        assert_ne!(masked["account"], value["account"]);
        assert_eq!((&masked["ratio"], &masked["n"]), (&json!(0.5), &json!(-1)));
    }

    #[test]
    fn what_tells_of_a_person_is_hidden_with_its_names() {
        let mut mask = mask();
        let value = json!({"user_metadata": {"nickname": "completed", "status": "ok", "likes": {"tea": 7}}});
        let masked = mask.value(&value, Place::Other, Around { error: false }).to_string();
        // In quotes, since a placeholder may hold a short word by chance.
        for word in ["\"nickname\"", "\"completed\"", "\"ok\"", "\"likes\"", "\"tea\"", "7}"] {
            assert!(!masked.contains(word), "{word} in {masked}");
        }
        assert!(masked.contains("user_metadata") && masked.contains("status"), "{masked}");
    }
}
