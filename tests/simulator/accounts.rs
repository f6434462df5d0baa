//! Users, access tokens and refresh tokens, as Supabase Auth keeps them.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use serde_json::{Value, json};
use uuid::Uuid;

/// The one account with a password.
pub const EMAIL: &str = "user@example.com";
/// Its password.
pub const PASSWORD: &str = "correct-password";
/// Its user id, the same at every sign-in.
const ACCOUNT: Uuid = Uuid::from_u128(0x1a17_fa57_0000_4000_8000_0000_0000_0001);

/// Everybody who has signed in, and the tokens that were given out.
#[derive(Default)]
pub struct Accounts {
    access_tokens: HashMap<String, AccessToken>,
    refresh_tokens: HashMap<String, RefreshToken>,
}

struct AccessToken {
    user: Uuid,
    /// Unix time in seconds.
    expires_at: u64,
}

struct RefreshToken {
    user: User,
    /// The one that was given for it, if it is used.
    child: Option<String>,
}

/// A user, anonymous or with the account.
#[derive(Clone, Copy)]
pub struct User {
    id: Uuid,
    is_anonymous: bool,
}

/// Why an access token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadToken {
    /// Not one of ours.
    Invalid,
    Expired,
}

/// Why a refresh token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRefresh {
    NotFound,
    AlreadyUsed,
}

impl User {
    /// A new anonymous user.
    pub fn anonymous() -> Self {
        Self { id: Uuid::new_v4(), is_anonymous: true }
    }

    /// The account behind [`EMAIL`] and [`PASSWORD`].
    pub fn with_account() -> Self {
        Self { id: ACCOUNT, is_anonymous: false }
    }

    /// The user object of a session.
    fn to_json(self) -> Value {
        json!({
            "id": self.id,
            "aud": "authenticated",
            "role": "authenticated",
            "email": if self.is_anonymous { "" } else { EMAIL },
            "phone": "",
            "app_metadata": {},
            "user_metadata": {},
            "identities": [],
            "is_anonymous": self.is_anonymous,
        })
    }
}

impl Accounts {
    /// Signs a user in: new tokens, in a session object as Supabase Auth answers it.
    pub fn new_session(&mut self, user: User, lifetime: u64) -> Value {
        let refresh_token = self.new_refresh_token(user);
        self.session(user, &refresh_token, lifetime)
    }

    /// Spends a refresh token for a new session; each is good for one refresh. With `parents`, as with
    /// Supabase Auth, the parent of a token that is not used yet may be used again, and gives that one.
    pub fn refresh(
        &mut self,
        token: &str,
        parents: bool,
        lifetime: u64,
    ) -> Result<Value, BadRefresh> {
        let known = self.refresh_tokens.get(token).ok_or(BadRefresh::NotFound)?;
        let user = known.user;
        let next = match known.child.clone() {
            Some(child) if parents && self.is_unused(&child) => child,
            Some(_) => return Err(BadRefresh::AlreadyUsed),
            None => self.new_refresh_token(user),
        };
        self.refresh_tokens.entry(token.to_owned()).and_modify(|t| t.child = Some(next.clone()));
        Ok(self.session(user, &next, lifetime))
    }

    fn is_unused(&self, token: &str) -> bool {
        self.refresh_tokens.get(token).is_some_and(|token| token.child.is_none())
    }

    fn new_refresh_token(&mut self, user: User) -> String {
        let token = random_word();
        self.refresh_tokens.insert(token.clone(), RefreshToken { user, child: None });
        token
    }

    fn session(&mut self, user: User, refresh_token: &str, lifetime: u64) -> Value {
        let issued_at = unix_seconds();
        let expires_at = issued_at + lifetime;
        let access_token = jwt(user, issued_at, expires_at);
        let access = AccessToken { user: user.id, expires_at };
        self.access_tokens.insert(access_token.clone(), access);
        json!({
            "access_token": access_token,
            "token_type": "bearer",
            "expires_in": lifetime,
            "expires_at": expires_at,
            "refresh_token": refresh_token,
            "user": user.to_json(),
        })
    }

    /// Whose access token this is.
    pub fn check_access_token(&self, token: &str) -> Result<Uuid, BadToken> {
        let known = self.access_tokens.get(token).ok_or(BadToken::Invalid)?;
        if known.expires_at <= unix_seconds() {
            return Err(BadToken::Expired);
        }
        Ok(known.user)
    }

    /// Lets every access token expire now, whatever its `exp` says.
    pub fn expire_access_tokens(&mut self) {
        self.access_tokens.values_mut().for_each(|token| token.expires_at = 0);
    }

    pub fn forget_refresh_tokens(&mut self) {
        self.refresh_tokens.clear();
    }
}

/// A JWT in form: its third part is no signature, which no client can check.
fn jwt(user: User, issued_at: u64, expires_at: u64) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let claims = json!({
        "aud": "authenticated",
        "sub": user.id,
        "iat": issued_at,
        "exp": expires_at,
        "role": "authenticated",
        "is_anonymous": user.is_anonymous,
        "session_id": Uuid::new_v4(),
    });
    let part = |json: Value| BASE64_URL.encode(json.to_string());
    format!("{}.{}.{}", part(header), part(claims), random_word())
}

/// Letters and digits that nobody guesses.
fn random_word() -> String {
    Uuid::new_v4().simple().to_string()
}

fn unix_seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("the clock is past 1970").as_secs()
}
