//! Secrets by reference, and addresses that can be printed.

use std::fmt;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use crate::{Fault, Result};

/// Where a secret lives: `env:NAME` or `file:/path`. A settings file never holds the secret itself.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(with = "String", extend("format" = SecretRef::FORMAT))]
pub struct SecretRef(String);

impl SecretRef {
    /// What the JSON Schema of settings says of such a key under `format`.
    pub const FORMAT: &str = "secret-reference";

    /// Parses `env:NAME` or `file:/path`.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("env" | "file", rest)) if !rest.is_empty() => Ok(Self(text.to_owned())),
            // The text may be the secret itself, put there by mistake: never repeat it.
            _ => Err(Fault::user("a secret must be named by reference, as `env:NAME` or `file:/path`")
                .hint("Put the secret into an environment variable or a file and name that here.")),
        }
    }

    /// Fetches the secret now. The text of the error names the place, never the value.
    pub fn resolve(&self) -> Result<SecretString> {
        let (kind, rest) = self.0.split_once(':').unwrap_or(("env", &self.0));
        let value = if kind == "env" {
            std::env::var(rest).map_err(|_| {
                Fault::user(format!("the environment variable `{rest}` is not set"))
                    .hint("Set it, or name another place with `env:` or `file:`.")
            })?
        } else {
            std::fs::read_to_string(rest)
                .map_err(|e| Fault::user(format!("the secret file `{rest}` cannot be read")).because(e))?
                .trim_end_matches(['\r', '\n'])
                .to_owned()
        };
        if value.is_empty() {
            return Err(Fault::user(format!("the secret `{}` is empty", self.0)));
        }
        Ok(value.into())
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|f| serde::de::Error::custom(f.message))
    }
}

/// A URL whose printed form shows neither user information nor query: either may carry a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SafeUrl(pub Url);

impl fmt::Display for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        let hidden = url.query().is_some();
        url.set_query(None);
        url.set_fragment(None);
        // Neither can fail on a URL with a host, and one without a host has nothing to hide there.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        write!(f, "{url}{}", if hidden { "?…" } else { "" })
    }
}

impl fmt::Debug for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_url_has_no_secret() {
        let url = SafeUrl(Url::parse("https://me:hunter2@api.example/x?token=abc#frag").unwrap());
        assert_eq!(url.to_string(), "https://api.example/x?…");
        assert_eq!(format!("{url:?}"), "https://api.example/x?…");
    }

    #[test]
    fn a_literal_secret_is_refused_and_not_repeated() {
        let fault = SecretRef::parse("hunter2").unwrap_err();
        assert!(!fault.chain().contains("hunter2"));
        assert!(SecretRef::parse("env:").is_err());
        assert!(SecretRef::parse("env:X").is_ok());
    }
}
