//! Takes the dashboard to a Grafana that runs, over its HTTP API.

use std::fmt;

use anyhow::{Context, bail};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};

use crate::outbound::{self, Server};

use super::grafana;

/// The most folders that are looked through.
const FOLDERS: u32 = 1000;

/// How much of an answer is read: so many folders, and to spare.
const MOST_ANSWER: usize = 4 << 20;

/// The address of a Grafana.
const EXAMPLE: &str = "http://localhost:3000";

/// A Grafana, and who we are to it. What it prints has no secret.
#[derive(Clone)]
pub struct Grafana {
    client: Client,
    url: Url,
    authorization: Option<HeaderValue>,
    /// The token or the password.
    secret: Option<String>,
}

impl fmt::Debug for Grafana {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grafana")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// Grafana could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach Grafana at {url}")]
pub struct Unreachable {
    url: String,
    #[source]
    source: reqwest::Error,
}

/// What Grafana answered.
struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Grafana {
    /// The Grafana at a URL, or at a host and port, for the owner of a token of a service account.
    ///
    /// # Errors
    ///
    /// If that is no URL, or no token.
    pub fn new(url: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let server = Server::parse(url, EXAMPLE).context("--grafana-url (or GRAFANA_URL)")?;
        let server = server.at("/");
        let mut url = server.url().clone();
        url.set_query(None);
        url.set_fragment(None);
        let (authorization, secret) = match (token, server.login()) {
            (Some(token), _) => (Some(format!("Bearer {token}")), Some(token)),
            (None, Some((user, password))) => {
                use base64::Engine;
                let name = format!("{user}:{}", password.unwrap_or_default());
                let name = base64::prelude::BASE64_STANDARD.encode(name);
                (Some(format!("Basic {name}")), password)
            }
            (None, None) => (None, None),
        };
        let secret = secret
            .filter(|secret| !secret.is_empty())
            .map(str::to_owned);
        let authorization = authorization
            .map(|value| {
                let mut value = HeaderValue::try_from(value)
                    // The error would show what it is about.
                    .map_err(|_secret| {
                        anyhow::anyhow!("the token of Grafana has a character that none has")
                    })?;
                value.set_sensitive(true);
                anyhow::Ok(value)
            })
            .transpose()?;
        Ok(Self {
            client: outbound::client()?,
            url,
            authorization,
            secret,
        })
    }

    /// Puts the dashboard where it is, or into a folder, which is created if it is missing. Returns where
    /// it can be looked at.
    ///
    /// # Errors
    ///
    /// [`Unreachable`], or why Grafana did not take it.
    pub async fn push(&self, folder: Option<&str>) -> anyhow::Result<String> {
        let mut body = json!({
            "dashboard": grafana::uploaded(),
            "message": concat!("machine-node ", env!("CARGO_PKG_VERSION")),
            "overwrite": true,
        });
        if let Some(title) = folder.filter(|title| !title.is_empty()) {
            body["folderUid"] = json!(self.folder(title).await?);
        }
        let answer = self
            .send(Method::POST, "api/dashboards/db", Some(&body))
            .await?;
        let answer = self.checked(answer, "save the dashboard")?;
        let path = answer.body["url"].as_str();
        let path = path.context("Grafana does not say where the dashboard is; is this Grafana?")?;
        Ok(self.beside(path))
    }

    /// Where a path is that Grafana told: it begins with Grafana's own path, or Grafana has none.
    fn beside(&self, path: &str) -> String {
        let own = self.url.path().trim_end_matches('/');
        let rest = path.strip_prefix(own).unwrap_or(path);
        let base = self.url.as_str().trim_end_matches('/');
        format!("{base}/{}", rest.trim_start_matches('/'))
    }

    /// The folder of a title.
    async fn folder(&self, title: &str) -> anyhow::Result<String> {
        let path = format!("api/folders?limit={FOLDERS}");
        let answer = self.send(Method::GET, &path, None).await?;
        let answer = self.checked(answer, "list folders")?;
        let folders = answer.body.as_array().into_iter().flatten();
        let uid = |folder: &Value| folder["uid"].as_str().map(str::to_owned);
        let same = |folder: &&Value| folder["title"] == title;
        if let Some(uid) = folders.clone().find(same).and_then(uid) {
            return Ok(uid);
        }
        let body = json!({ "title": title });
        let answer = self.send(Method::POST, "api/folders", Some(&body)).await?;
        let answer = self.checked(answer, "create the folder")?;
        uid(&answer.body).context("Grafana does not say which folder it made; is this Grafana?")
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let url = self.url.join(path).context("the URL of Grafana is none")?;
        let mut request = self.client.request(method, url);
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let whole = async {
            let response = request.send().await?;
            let status = response.status();
            Ok((status, outbound::read(response, MOST_ANSWER).await?))
        };
        let (status, body) = whole.await.map_err(|source: reqwest::Error| Unreachable {
            url: self.url.to_string(),
            source: source.without_url(),
        })?;
        Ok(Answer {
            status,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }

    /// The answer, unless it is that Grafana does not do it.
    fn checked(&self, answer: Answer, what: &str) -> anyhow::Result<Answer> {
        let why = match answer.status {
            status if status.is_success() => return Ok(answer),
            StatusCode::UNAUTHORIZED if self.authorization.is_none() => {
                "it wants a token, see --grafana-token".to_owned()
            }
            StatusCode::UNAUTHORIZED => {
                "it does not know the token, or the token has expired".to_owned()
            }
            StatusCode::FORBIDDEN => {
                "the token may not; its service account has to be an editor".to_owned()
            }
            StatusCode::PRECONDITION_FAILED => {
                "a dashboard of that name, or a newer one, is in the way".to_owned()
            }
            status => format!("it answered {status}"),
        };
        // A server's message may repeat what it was sent.
        let message = self.redacted(answer.message());
        let said = if message.is_empty() {
            String::new()
        } else {
            format!(": {message}")
        };
        bail!("Grafana does not {what}, {why}{said}")
    }

    /// A text of the server's, less the secret that it may repeat.
    fn redacted(&self, text: &str) -> String {
        let sent = self
            .authorization
            .as_ref()
            .and_then(|value| value.to_str().ok());
        let sent = sent.and_then(|value| Some(value.split_once(' ')?.1));
        let secrets = [sent, self.secret.as_deref()].into_iter().flatten();
        secrets
            .filter(|secret| !secret.is_empty())
            .fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dashboard_is_beside_grafana_wherever_that_is() {
        let at = |url, path| Grafana::new(url, None).unwrap().beside(path);
        assert_eq!(
            at("localhost:3000", "/d/a/b"),
            "http://localhost:3000/d/a/b"
        );
        assert_eq!(
            at("http://h/grafana", "/grafana/d/a"),
            "http://h/grafana/d/a"
        );
        assert_eq!(at("http://h/grafana/", "/d/a"), "http://h/grafana/d/a");
    }

    #[test]
    fn secrets_are_not_shown() {
        for grafana in [
            Grafana::new("http://me:hidden@host", None).unwrap(),
            Grafana::new("http://host", Some("hidden")).unwrap(),
        ] {
            assert!(!format!("{grafana:?}").contains("hidden"));
            assert!(grafana.authorization.is_some());
        }
        let wrong = Grafana::new("http://host", Some("hid\nden")).unwrap_err();
        assert!(!format!("{wrong:#} {wrong:?}").contains("den"));
        let knows = Grafana::new("http://host", Some("hidden")).unwrap();
        assert_eq!(knows.redacted("no hidden here"), "no … here");
    }
}
