//! What helps when Supabase Auth refuses a sign-in: its errors by their codes, or, where an older version
//! sends none, by their words (known from its source); and what an operator can do about each.

use super::api::Credentials;
use crate::config::SetToken;
use crate::error::{Error, Failure};

/// Where a browser keeps the session of somebody who is signed in to LangFast (known of supabase-js,
/// which the web page uses; the names of cookies are supabase/ssr's).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserPlace {
    /// The web page, such as `https://langfa.st`.
    pub origin: String,
    /// The key in Local Storage, and the name of the cookie.
    pub key: String,
}

impl BrowserPlace {
    /// The place for the web page `origin` and the Supabase project at `host`: the key is made of the
    /// host's first label.
    pub fn new(origin: &str, host: &str) -> BrowserPlace {
        let project = host.split('.').next().unwrap_or_default();
        BrowserPlace { origin: origin.to_owned(), key: format!("sb-{project}-auth-token") }
    }

    /// How to get the refresh token from there.
    pub fn recipe(&self) -> String {
        let BrowserPlace { origin, key } = self;
        format!(
            "sign in at {origin} in a private window of a browser, open its developer tools (F12), and \
             copy the value of `{key}` from Application (Firefox: Storage) > Local Storage > {origin}, \
             or the cookies of that name; paste it into `langfast2api login --refresh-token`, and close \
             the window without signing out"
        )
    }
}

/// The cause of a failed sign-in that only a person can mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    UnknownToken,
    UsedToken,
    EndedSession,
    ExpiredSession,
    WrongPassword,
    NoPasswords,
    UnconfirmedAddress,
    NoAnonymous,
    NoNewUsers,
    Captcha,
    Banned,
}

/// Error codes (known).
const CODES: [(&str, Trouble); 14] = [
    ("refresh_token_not_found", Trouble::UnknownToken),
    ("refresh_token_already_used", Trouble::UsedToken),
    ("session_not_found", Trouble::EndedSession),
    ("user_not_found", Trouble::EndedSession),
    ("session_expired", Trouble::ExpiredSession),
    ("invalid_credentials", Trouble::WrongPassword),
    ("email_provider_disabled", Trouble::NoPasswords),
    ("provider_disabled", Trouble::NoPasswords),
    ("email_not_confirmed", Trouble::UnconfirmedAddress),
    ("provider_email_needs_verification", Trouble::UnconfirmedAddress),
    ("anonymous_provider_disabled", Trouble::NoAnonymous),
    ("signup_disabled", Trouble::NoNewUsers),
    ("captcha_failed", Trouble::Captcha),
    ("user_banned", Trouble::Banned),
];

/// Parts of messages, in small letters, of versions that send no code, or one that says less
/// (`invalid_grant`, `unexpected_failure`; known). The more particular ones come first.
const WORDS: [(&str, Trouble); 13] = [
    ("captcha", Trouble::Captcha),
    ("user banned", Trouble::Banned),
    ("user is banned", Trouble::Banned),
    ("already used", Trouble::UsedToken),
    ("session expired", Trouble::ExpiredSession),
    ("no valid session found", Trouble::EndedSession),
    ("refresh token not found", Trouble::UnknownToken),
    ("invalid refresh token", Trouble::UnknownToken),
    ("invalid login", Trouble::WrongPassword),
    ("email not confirmed", Trouble::UnconfirmedAddress),
    ("email logins are disabled", Trouble::NoPasswords),
    ("anonymous sign-ins are disabled", Trouble::NoAnonymous),
    ("signups not allowed", Trouble::NoNewUsers),
];

fn trouble(error: &Error) -> Option<Trouble> {
    let Error::Upstream { failure: Failure::Status { code, message, .. }, .. } = error else {
        return None;
    };
    let words = message.as_deref().unwrap_or_default().to_ascii_lowercase();
    let by_code = CODES.iter().find(|(known, _)| code.as_deref() == Some(known));
    let by_words = || WORDS.iter().find(|(part, _)| words.contains(part));
    by_code.or_else(by_words).map(|(_, trouble)| *trouble)
}

/// Whether the refresh token will never work again.
pub fn is_dead_session(error: &Error) -> bool {
    matches!(
        trouble(error),
        Some(
            Trouble::UnknownToken
                | Trouble::UsedToken
                | Trouble::EndedSession
                | Trouble::ExpiredSession
        )
    )
}

/// Whether Auth has refused a sign-in for what only a person can mend, with whatever status: it has done
/// nothing then.
pub fn needs_person(error: &Error) -> bool {
    trouble(error).is_some()
}

/// Says what to do about a sign-in with `credentials` that LangFast has refused; `None` if no operator
/// can do anything. `set` is the refresh token in the settings.
pub fn remedy(
    error: &Error,
    credentials: &Credentials,
    set: Option<&SetToken>,
    place: &BrowserPlace,
) -> Option<String> {
    let recipe = place.recipe();
    let log_in = log_in_again(set);
    Some(match trouble(error)? {
        Trouble::UnknownToken => format!("the kept session is unknown to LangFast. {log_in}"),
        Trouble::UsedToken => {
            format!("the kept session was used elsewhere too and is over. {log_in}")
        }
        Trouble::EndedSession => {
            format!("the session was ended (signed out elsewhere?). {log_in}")
        }
        Trouble::ExpiredSession => format!("the session has expired. {log_in}"),
        Trouble::WrongPassword => format!(
            "e-mail or password is wrong. Try `langfast2api login` again, or mend LANGFAST2API_EMAIL \
             and its password if they are set. An account that is entered by way of Google or the like \
             has no password: {recipe}"
        ),
        Trouble::NoPasswords => {
            format!("LangFast takes no passwords at present. Instead, {recipe}")
        }
        Trouble::UnconfirmedAddress => format!(
            "the account's e-mail address is not confirmed yet. Open the link in LangFast's \
             confirmation mail first; if it is lost, ask for another one at {}",
            place.origin
        ),
        Trouble::NoAnonymous => format!("LangFast no longer lets anonymous visitors in. {log_in}"),
        Trouble::NoNewUsers => format!(
            "LangFast takes no new users at present, so only an account that is there already helps. \
             {log_in}"
        ),
        Trouble::Captcha => behind_captcha(credentials, &recipe),
        Trouble::Banned => "LangFast has banned this account. Ask LangFast's support".to_owned(),
    })
}

/// How to sign in anew, in the operator's own way; `set` is the refresh token in the settings.
fn log_in_again(set: Option<&SetToken>) -> String {
    let other = match set {
        Some(set) => format!("put a new refresh token into {}", set.setting),
        None => "set LANGFAST2API_EMAIL and a password".to_owned(),
    };
    format!("Sign in with `langfast2api login`, or {other}")
}

/// What to do where sign-ins are guarded by a captcha; `recipe` says where a refresh token is found.
fn behind_captcha(credentials: &Credentials, recipe: &str) -> String {
    let instead = match credentials {
        Credentials::Anonymous => "An account's password does not help, since it is guarded too",
        _ => "Another password does not help, since every one is guarded so",
    };
    format!(
        "LangFast wants a captcha solved, which only a person can. {instead}. What helps is a refresh \
         token: {recipe}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Step;

    fn refused(code: Option<&str>, message: &str) -> Error {
        let (code, message) = (code.map(str::to_owned), Some(message.to_owned()));
        let failure = Failure::Status { status: 400, code, message, retry_after: None };
        Error::upstream(Step::SignIn, failure)
    }

    #[test]
    fn a_code_goes_before_words_and_words_do_where_no_code_is_known() {
        for (code, message, expected) in [
            (Some("captcha_failed"), "no", Some(Trouble::Captcha)),
            (Some("invalid_grant"), "Invalid login credentials", Some(Trouble::WrongPassword)),
            (None, "Invalid Refresh Token: Already Used", Some(Trouble::UsedToken)),
            (None, "Invalid Refresh Token: User Banned", Some(Trouble::Banned)),
            (
                None,
                "Invalid Refresh Token: Session Expired (Inactivity)",
                Some(Trouble::ExpiredSession),
            ),
            (
                Some("unexpected_failure"),
                "captcha verification process failed",
                Some(Trouble::Captcha),
            ),
            (Some("user_banned"), "Invalid Refresh Token: User Banned", Some(Trouble::Banned)),
            (Some("conflict"), "Too many concurrent token refresh requests", None),
            (None, "", None),
        ] {
            assert_eq!(trouble(&refused(code, message)), expected, "{code:?} {message}");
        }
    }

    #[test]
    fn the_place_in_the_browser_follows_from_page_and_project() {
        let place = BrowserPlace::new("https://langfa.st", "abc.supabase.co");
        assert_eq!(place.key, "sb-abc-auth-token");
        assert!(place.recipe().contains("sign in at https://langfa.st"));
        assert_eq!(BrowserPlace::new("x", "auth.example.com").key, "sb-auth-auth-token");
        assert_eq!(BrowserPlace::new("x", "127.0.0.1").key, "sb-127-auth-token");
    }

    #[test]
    fn each_trouble_has_words_of_its_own() {
        let place = BrowserPlace::new("https://langfa.st", "abc.supabase.co");
        let said = CODES.map(|(code, _)| {
            remedy(&refused(Some(code), ""), &Credentials::Anonymous, None, &place).unwrap()
        });
        for ((code, trouble), words) in CODES.iter().zip(&said) {
            let same = CODES.iter().zip(&said).filter(|(_, other)| *other == words);
            assert!(same.into_iter().all(|((_, other), _)| other == trouble), "{code}");
        }
    }
}
