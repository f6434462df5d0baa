//! Decides how to sign in to LangFast, from the settings and the kept session, and puts that into
//! words; has no effects of its own.
//!
//! | set | kept | what happens |
//! | --- | --- | --- |
//! | nothing | a session | it goes on, whatever it began with: `logout` ends it, a setting that is removed does not |
//! | nothing | none | an anonymous user is signed up |
//! | e-mail and password | a session of that address | it goes on; the password, which may have changed, is for when it is over |
//! | e-mail and password | any other, or none | signs in by the password; a kept session of somebody else is replaced |
//! | a refresh token not used before | any session, or none | begins anew with the token; the kept session is replaced |
//! | a refresh token used before | the session that began with it | it goes on |
//! | a refresh token used before | another session of an account, as of a later `login` | it goes on, with a warning |
//! | a refresh token used before | an anonymous user's, or none | an error: an account was wanted, and none can be had |
//! | a refresh token that LangFast refused | a session from before | an error, until `login` or another token |
//!
//! A refresh token works once, so it must never be sent again while the session that it began is kept:
//! that would end the session. Used tokens are kept as fingerprints, not as tokens. An e-mail address
//! takes precedence over a refresh token; a password alone has no effect.

use super::store::{Saved, SavedSession};
use crate::config::{Account, SetToken};

/// The way in which the next sign-in is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInPlan {
    /// With the kept session.
    GoOn,
    /// With the refresh token in the settings.
    SetToken,
    /// With the password in the settings.
    Password,
    /// As a new anonymous user.
    SignUp,
    /// Not at all: the refresh token in the settings has been used up.
    UsedUp,
    /// Not at all: LangFast refused the refresh token in the settings.
    Refused,
}

impl SignInPlan {
    /// Decides by the table at the head of this file.
    pub fn of(account: &Account, saved: &Saved) -> SignInPlan {
        let session = saved.session.as_ref();
        if let Some((email, _)) = &account.login {
            return match session.is_some_and(|session| is_of(session, email)) {
                true => SignInPlan::GoOn,
                false => SignInPlan::Password,
            };
        }
        let Some(set) = &account.refresh_token else {
            return if session.is_some() { SignInPlan::GoOn } else { SignInPlan::SignUp };
        };
        let is_account = session.is_some_and(|session| session.email.is_some());
        match saved.use_of(&set.token) {
            // The kept session may have begun with this very token; sending it would end the session.
            None if is_account && saved.used_tokens.is_none() => SignInPlan::GoOn,
            None => SignInPlan::SetToken,
            Some(used) if used.refused => SignInPlan::Refused,
            Some(_) if is_account || began_with(session, set) => SignInPlan::GoOn,
            Some(_) => SignInPlan::UsedUp,
        }
    }
}

fn is_of(session: &SavedSession, email: &str) -> bool {
    session.email.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(email))
}

fn began_with(session: Option<&SavedSession>, set: &SetToken) -> bool {
    let began_with = session.and_then(|session| session.began_with.as_ref());
    began_with.is_some_and(|fingerprint| fingerprint.is_of(&set.token))
}

/// A description of the next sign-in, for people to read.
#[derive(Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The user, worded to be read after "as".
    pub who: String,
    /// The server's next step to sign in, unless it just goes on with the kept session.
    pub change: Option<String>,
    /// Settings that do not do what they seem to do. Names no account.
    pub warnings: Vec<String>,
}

/// Describes the sign-in that follows from the settings and the kept session.
pub fn outlook(account: &Account, saved: &Saved) -> Outlook {
    let plan = SignInPlan::of(account, saved);
    let session = saved.session.as_ref();
    let in_place_of = session.map(|session| format!(", in place of {}", whose(session)));
    let in_place_of = in_place_of.unwrap_or_default();
    let (who, change) = match (plan, &account.login, &account.refresh_token) {
        (SignInPlan::Password, Some((email, _)), _) => {
            (format!("{email}{in_place_of}"), Some(format!("sign in as {email}{in_place_of}")))
        }
        (SignInPlan::SetToken, _, Some(set)) => {
            let token = format!("the refresh token in {}", set.setting);
            let change = format!("begin with {token}{in_place_of}");
            (format!("the holder of {token}{in_place_of}"), Some(change))
        }
        (SignInPlan::UsedUp | SignInPlan::Refused, _, Some(set)) => {
            let why = cannot(plan, set, saved);
            (format!("nobody: {why}"), Some(format!("not sign in: {why}")))
        }
        _ => match session {
            Some(session) => (whose(session), None),
            None => {
                let change = "sign up an anonymous user when it needs one".to_owned();
                ("an anonymous user".to_owned(), Some(change))
            }
        },
    };
    Outlook { who, change, warnings: warnings(account, saved, plan) }
}

fn whose(session: &SavedSession) -> String {
    match &session.email {
        Some(email) => format!("{email} (the session that is kept)"),
        None => "an anonymous user (the session that is kept)".to_owned(),
    }
}

/// Explains why signing in is not possible, and what to do.
pub fn cannot(plan: SignInPlan, set: &SetToken, saved: &Saved) -> String {
    let what = match plan {
        SignInPlan::Refused => {
            "LangFast does not take it: it was used already, or its session is over"
        }
        _ => "it works once and was used before, and no session of it is kept",
    };
    let or_remove = match &saved.session {
        Some(session) if session.email.is_some() => {
            ", or remove the setting to go on with the account whose session is kept"
        }
        Some(_) => ", or remove the setting to go on as the anonymous user whose session is kept",
        None => ", or remove the setting",
    };
    format!(
        "the refresh token in {} is of no use any more ({what}). Put a new one there, sign in with \
         `langfast2api login`{or_remove}",
        set.setting
    )
}

fn warnings(account: &Account, saved: &Saved, plan: SignInPlan) -> Vec<String> {
    let mut warnings = Vec::new();
    match (&account.login, &account.refresh_token) {
        (Some(_), Some(set)) => warnings.push(format!(
            "the refresh token in {} is not used, because LANGFAST2API_EMAIL is set",
            set.setting
        )),
        (None, Some(set)) if plan == SignInPlan::GoOn && saved.use_of(&set.token).is_none() => {
            warnings.push(format!(
                "whether the kept session began with the refresh token in {} is not known, so the \
                 session goes on; to begin with the token, run `langfast2api logout` first",
                set.setting
            ));
        }
        (None, Some(set))
            if plan == SignInPlan::GoOn && !began_with(saved.session.as_ref(), set) =>
        {
            warnings.push(format!(
                "the refresh token in {} works once and was used before; another session that is kept \
                 goes on. Put a new token there, or remove the setting",
                set.setting
            ));
        }
        _ => {}
    }
    if account.password_alone {
        warnings.push(
            "a password is set and not used, because LANGFAST2API_EMAIL is not set".to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::langfast::fingerprint::Fingerprint;

    const ANONYMOUS: Option<&str> = Some("");
    const ACCOUNT: Option<&str> = Some("user@example.com");

    fn saved(email: Option<&str>) -> Saved {
        let session = email.map(|email| SavedSession {
            refresh_token: "kept".to_owned(),
            access_token: "access".to_owned(),
            expires_at: 0,
            user_id: "id".to_owned(),
            email: Some(email.to_owned()).filter(|email| !email.is_empty()),
            prompt_id: None,
            began_with: None,
        });
        Saved { session, sign_ups: Vec::new(), used_tokens: Some(Vec::new()) }
    }

    fn with_token(token: &str) -> Account {
        let set = SetToken { token: token.to_owned(), setting: "SETTING".to_owned() };
        Account { refresh_token: Some(set), ..Account::default() }
    }

    fn with_login(email: &str) -> Account {
        Account { login: Some((email.to_owned(), "secret".to_owned())), ..Account::default() }
    }

    #[test]
    fn without_settings_what_is_kept_goes_on_whatever_it_began_with() {
        let account = Account::default();
        assert_eq!(SignInPlan::of(&account, &saved(None)), SignInPlan::SignUp);
        assert_eq!(SignInPlan::of(&account, &saved(ANONYMOUS)), SignInPlan::GoOn);
        let mut kept = saved(ACCOUNT);
        let fingerprint = kept.note_use("token", false);
        kept.session.as_mut().unwrap().began_with = Some(fingerprint);
        assert_eq!(SignInPlan::of(&account, &kept), SignInPlan::GoOn);
        assert_eq!(outlook(&account, &kept).change, None);
    }

    #[test]
    fn an_address_goes_on_with_its_own_session_alone() {
        let account = with_login("User@Example.com");
        assert_eq!(SignInPlan::of(&account, &saved(ACCOUNT)), SignInPlan::GoOn);
        for kept in [saved(None), saved(ANONYMOUS), saved(Some("other@example.com"))] {
            assert_eq!(SignInPlan::of(&account, &kept), SignInPlan::Password);
        }
    }

    #[test]
    fn an_address_goes_before_a_refresh_token_and_that_is_said() {
        let account = Account { login: with_login("a@b.c").login, ..with_token("token") };
        assert_eq!(SignInPlan::of(&account, &saved(None)), SignInPlan::Password);
        let warnings = outlook(&account, &saved(None)).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("SETTING"), "{warnings:?}");
        let account = Account { password_alone: true, ..Account::default() };
        assert!(outlook(&account, &saved(None)).warnings[0].contains("LANGFAST2API_EMAIL"));
    }

    #[test]
    fn a_new_refresh_token_begins_anew_whatever_is_kept() {
        for kept in [saved(None), saved(ANONYMOUS), saved(ACCOUNT)] {
            assert_eq!(SignInPlan::of(&with_token("token"), &kept), SignInPlan::SetToken);
            let outlook = outlook(&with_token("token"), &kept);
            assert!(outlook.who.contains("SETTING"), "{outlook:?}");
            assert_eq!(outlook.who.contains("in place of"), kept.session.is_some(), "{outlook:?}");
            assert!(!format!("{outlook:?}").contains("token\""), "{outlook:?}");
        }
    }

    #[test]
    fn a_used_refresh_token_is_never_sent_again() {
        let account = with_token("token");
        for email in [ANONYMOUS, ACCOUNT] {
            let mut kept = saved(email);
            let fingerprint = kept.note_use("token", false);
            kept.session.as_mut().unwrap().began_with = Some(fingerprint);
            assert_eq!(SignInPlan::of(&account, &kept), SignInPlan::GoOn);
            assert_eq!(outlook(&account, &kept).warnings, Vec::<String>::new());
        }
        let mut kept = saved(ACCOUNT);
        kept.note_use("token", false);
        kept.session.as_mut().unwrap().began_with = Some(Fingerprint::of("another"));
        assert_eq!(SignInPlan::of(&account, &kept), SignInPlan::GoOn);
        assert!(outlook(&account, &kept).warnings[0].contains("used before"));
        for email in [None, ANONYMOUS] {
            let mut kept = saved(email);
            kept.note_use("token", false);
            assert_eq!(SignInPlan::of(&account, &kept), SignInPlan::UsedUp);
            assert!(outlook(&account, &kept).who.starts_with("nobody: "));
        }
    }

    #[test]
    fn a_refused_refresh_token_is_an_error_whatever_is_kept() {
        for email in [None, ANONYMOUS, ACCOUNT] {
            let mut kept = saved(email);
            kept.note_use("token", true);
            assert_eq!(SignInPlan::of(&with_token("token"), &kept), SignInPlan::Refused);
            assert_eq!(SignInPlan::of(&with_token("another"), &kept), SignInPlan::SetToken);
        }
    }

    #[test]
    fn where_it_is_not_known_what_was_used_an_account_goes_on_and_an_anonymous_user_does_not() {
        let unknown = |email| Saved { used_tokens: None, ..saved(email) };
        let account = with_token("token");
        assert_eq!(SignInPlan::of(&account, &unknown(ACCOUNT)), SignInPlan::GoOn);
        assert!(outlook(&account, &unknown(ACCOUNT)).warnings[0].contains("not known"));
        assert_eq!(SignInPlan::of(&account, &unknown(ANONYMOUS)), SignInPlan::SetToken);
        assert_eq!(SignInPlan::of(&account, &unknown(None)), SignInPlan::SetToken);
    }
}
