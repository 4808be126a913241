//! Who may ask for what: the only place that says which role a path takes.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::Request;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use machine_runtime::replica::{Changes, Credentials, Token};
use machine_runtime::{DynState, Mutation, Op};
use tokio::sync::watch;

use super::Site;
use super::problem::Problem;
use super::routes::Call;
use super::traffic::Route;
use crate::access::{Access, Client, Denial, Role, Why, token};

/// What a path takes of who asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Takes {
    /// Nothing: whoever runs a node has to know that it runs.
    Nothing,
    /// Any role: what is not there is nobody's secret but a stranger's.
    Any,
    /// This one.
    One(Role),
}

impl Route {
    fn takes(self) -> Takes {
        match self {
            Self::Health | Self::Ready => Takes::Nothing,
            Self::Root
            | Self::States
            | Self::State
            | Self::Schema
            | Self::Graph
            | Self::Events
            | Self::Metrics => Takes::One(Role::Observe),
            Self::Mutations => Takes::One(Role::Mutate),
            Self::Links => Takes::One(Role::Admin),
            Self::Other => Takes::Any,
        }
    }
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asker {
    shown: Credentials,
    /// Who that is; or what is wrong with what they show.
    client: Result<Option<Arc<Client>>, Problem>,
}

impl Asker {
    /// What they are called, if that is known.
    pub(super) fn name(&self) -> Option<&Arc<str>> {
        let client = self.client.as_ref().ok()?.as_ref()?;
        (!client.is_anonymous()).then(|| client.name())
    }

    /// The same, as they are known now.
    pub(super) fn anew(&self, access: &Access) -> Self {
        let shown = self.shown.clone();
        let client = self.client.clone().map(|_| access.who(&shown));
        Self { shown, client }
    }

    /// Whether they have this role.
    pub(super) fn may(&self, role: Role) -> bool {
        let client = self.client.as_ref().ok().and_then(Option::as_ref);
        client.is_some_and(|client| client.roles().contains(role))
    }
}

/// What stands before the requests of one connection.
pub(super) struct Gate {
    access: Access,
    shown: Credentials,
    /// Who asked last: most ask again.
    last: RefCell<Option<Last>>,
}

struct Last {
    header: Option<HeaderValue>,
    generation: u64,
    asker: Arc<Asker>,
}

impl Gate {
    /// That of a client with these names in its certificate, at this address.
    pub(super) fn new(access: &Access, names: Arc<[String]>, address: Option<IpAddr>) -> Self {
        let mut shown = Credentials::of_certificate(names);
        shown.address = address;
        Self {
            access: access.clone(),
            shown,
            last: RefCell::default(),
        }
    }

    /// Who sends a request; None where nobody is asked who they are.
    pub(super) fn asker(&self, headers: &HeaderMap) -> Option<Arc<Asker>> {
        if self.access.is_open() {
            return None;
        }
        let header = headers.get(AUTHORIZATION);
        let is_only = headers.get_all(AUTHORIZATION).iter().nth(1).is_none();
        let generation = self.access.generation();
        if let Some(last) = &*self.last.borrow()
            && (last.generation, last.header.as_ref(), true) == (generation, header, is_only)
        {
            return Some(Arc::clone(&last.asker));
        }
        let token = match header {
            None => Ok(None),
            Some(_) if !is_only => Err(Problem::several_authorizations()),
            Some(header) => bearer(header).map(Some),
        };
        let shown = self.shown.clone();
        let shown = shown.with_token(token.as_ref().ok().cloned().flatten());
        let client = token.map(|_| self.access.who(&shown));
        let asker = Arc::new(Asker { shown, client });
        if is_only {
            *self.last.borrow_mut() = Some(Last {
                header: header.cloned(),
                generation,
                asker: Arc::clone(&asker),
            });
        }
        Some(asker)
    }
}

/// The token of a header.
fn bearer(header: &HeaderValue) -> Result<Token, Problem> {
    let text = header.to_str().unwrap_or_default();
    let (scheme, token) = text.split_once(' ').unwrap_or_default();
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || !token::is_well_formed(token) {
        return Err(Problem::no_token());
    }
    Ok(Token::new(token))
}

/// Whether an address has a token in it: it would be in the logs of all that it passes.
pub(super) fn has_token(path: &str, params: &[(String, String)]) -> bool {
    if token::is_within(path) {
        return true;
    }
    let mut params = params.iter();
    params.any(|(name, value)| {
        ["access_token", "token"].contains(&name.as_str())
            || token::is_within(name)
            || token::is_within(value)
    })
}

impl Site {
    /// Whether who sends a call may, and what to say if not.
    pub(super) fn permit_call(&self, call: &Call) -> Result<(), Problem> {
        self.permit(call.asker.as_deref(), call.target.route())
    }

    /// The same of what `asker` asks for.
    pub(super) fn permit(&self, asker: Option<&Asker>, route: Route) -> Result<(), Problem> {
        if self.access.is_open() {
            return Ok(());
        }
        let role = match route.takes() {
            Takes::Nothing => return Ok(()),
            Takes::Any => None,
            Takes::One(role) => Some(role),
        };
        let known = match asker.map(|asker| &asker.client) {
            Some(Ok(client)) => client.as_ref(),
            Some(Err(problem)) => {
                self.deny(asker, role.unwrap_or(Role::Observe), Why::Unknown, route);
                return Err(problem.clone());
            }
            None => None,
        };
        let roles = known.map(|client| client.roles()).unwrap_or_default();
        if role.map_or(!roles.is_empty(), |role| roles.contains(role)) {
            return Ok(());
        }
        let role = role.unwrap_or(Role::Observe);
        if let Some(client) = known.filter(|client| !client.is_anonymous()) {
            self.deny(asker, role, Why::NotAllowed, route);
            return Err(Problem::forbidden(client.name(), role.name()));
        }
        self.deny(asker, role, Why::Unknown, route);
        Err(Problem::unauthenticated(role.name()))
    }

    /// Whether who asks for a mutation, which they may ask for, may call its states and give them payloads.
    /// To set some is to end all others.
    pub(super) fn permit_changes(
        &self,
        asker: Option<&Asker>,
        mutation: &Mutation<DynState>,
    ) -> Result<(), Problem> {
        if self.access.is_open() {
            return Ok(());
        }
        let client = asker.and_then(|asker| asker.client.as_ref().ok()?.as_ref());
        let changes = client.map_or(&Changes::Nothing, |client| client.changes());
        let schema = self.view.schema();
        let called = mutation.states().iter().map(|state| state.0 as usize);
        let given = mutation.payloads().iter();
        let given = given.map(|(state, _)| state.0 as usize);
        let sets = mutation.op() == Op::Set;
        let others = if sets { 0..schema.len() } else { 0..0 };
        let Some(state) = changes.first_forbidden(called.chain(given).chain(others)) else {
            return Ok(());
        };
        self.deny(asker, Role::Mutate, Why::State, Route::Mutations);
        let who = client.map_or("", |client| client.name());
        Err(Problem::forbidden_state(who, schema.name_of(state), sets))
    }

    /// Whether who sends a call has this role.
    pub(super) fn may(&self, call: &Call, role: Role) -> bool {
        self.access.is_open() || call.asker.as_ref().is_some_and(|asker| asker.may(role))
    }

    fn deny(&self, asker: Option<&Asker>, what: Role, why: Why, route: Route) {
        let client = asker.and_then(|asker| asker.client.as_ref().ok()?.as_ref());
        let known = client.filter(|client| !client.is_anonymous());
        self.access.denials().add(&Denial {
            what,
            why,
            who: known.map(|client| &**client.name()),
            address: asker.and_then(|asker| asker.shown.address),
            place: route.path(),
        });
    }
}

/// Watches whether somebody may still have what they are given over time.
pub(super) struct Hold {
    access: Access,
    changes: watch::Receiver<u64>,
    asker: Arc<Asker>,
    role: Role,
    /// Of which generation it is known that they may.
    known: Option<u64>,
}

impl Hold {
    /// For who sends a call; None where nobody is asked who they are.
    pub(super) fn new(access: &Access, call: &Call, role: Role) -> Option<Self> {
        let asker = Arc::clone(call.asker.as_ref()?);
        Some(Self {
            changes: access.changes(),
            access: access.clone(),
            asker,
            role,
            known: None,
        })
    }

    /// Resolves once they may not.
    ///
    /// # Cancel safety
    ///
    /// Who may not is told so by the next call.
    pub(super) async fn lost(&mut self) {
        loop {
            let generation = *self.changes.borrow_and_update();
            if self.known != Some(generation) {
                let client = self.access.who(&self.asker.shown);
                if !client.is_some_and(|client| client.roles().contains(self.role)) {
                    return;
                }
                self.known = Some(generation);
            }
            if self.changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Resolves once what is held is lost, if anything is.
pub(super) async fn lost(hold: &mut Option<Hold>) {
    match hold {
        Some(hold) => hold.lost().await,
        None => std::future::pending().await,
    }
}

/// Has a request carry who sends it, unless nobody is asked.
pub(super) fn attach<B>(asker: Option<Arc<Asker>>, request: &mut Request<B>) {
    if let Some(asker) = asker {
        request.extensions_mut().insert(asker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_an_address_is_seen_wherever_it_is() {
        let token = token::make().unwrap();
        let query = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for params in [
            query("token", ""),
            query("access_token", "x"),
            query("wait", token.secret()),
            query(&format!("a{}", token.secret()), ""),
        ] {
            assert!(has_token("/", &params));
        }
        assert!(!has_token("/v1/states", &query("wait", "3")) && !has_token("/", &[]));
        assert!(has_token(&format!("/v1/states/{}", token.secret()), &[]));
    }

    #[test]
    fn a_header_is_a_scheme_and_a_token() {
        let token = token::make().unwrap();
        let secret = token.secret();
        let read = |text: String| bearer(&HeaderValue::from_str(&text).unwrap());
        assert_eq!(read(format!("Bearer {secret}")), Ok(token.clone()));
        assert_eq!(read(format!("bearer  {secret}")), Ok(token.clone()));
        for text in [
            String::new(),
            secret.to_owned(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            "Bearer secret".to_owned(),
            format!("Basic {secret}"),
            format!("Bearer {secret} {secret}"),
        ] {
            assert_eq!(read(text), Err(Problem::no_token()));
        }
    }
}
