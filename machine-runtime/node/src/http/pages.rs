//! The bodies that everybody asks for, each rendered once per position and shared.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, VARY};
use machine_runtime::Position;
use machine_runtime::replica::Selection;

use super::Site;
use super::accept::Representation;
use super::cors::harden;
use super::render::{self, Scene};
use super::schema;

/// Where in the root's history an answer is.
pub(super) static POSITION: HeaderName = HeaderName::from_static("machine-position");

/// Whether the node has had no news of its root for too long.
pub(super) static STALE: HeaderName = HeaderName::from_static("machine-stale");

/// How long ago what is shown was last known to be the root's newest.
pub(super) static AGE: HeaderName = HeaderName::from_static("machine-age-ms");

/// What a body that everybody asks for depends on: where the node is, how far from the root, and which states
/// it follows, if not all.
type Key = (Position, Option<u32>, Option<u64>);

/// A body and the headers that go with it.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// What it was rendered for.
    key: Option<Key>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Page {
    /// A page that shows a moment. Its headers have room for the volatile ones.
    pub(super) fn new(
        position: Position,
        representation: Representation,
        suffix: &str,
        body: Bytes,
    ) -> Self {
        let (kind, letter) = match representation {
            Representation::Json => ("application/json", 'j'),
            Representation::Text => ("text/plain; charset=utf-8", 't'),
            // Until there is a board for browsers, they get the text.
            Representation::Html => ("text/plain; charset=utf-8", 'h'),
        };
        let position = position.to_string();
        let mut headers = HeaderMap::with_capacity(9);
        put_fresh(&mut headers);
        headers.insert(&POSITION, ascii(&position));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(ETAG, ascii(&format!("\"{position}-{letter}{suffix}\"")));
        headers.insert(VARY, HeaderValue::from_static("accept"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        harden(&mut headers);
        Self {
            key: None,
            headers,
            body,
        }
    }

    /// Where the moment that everybody's page shows is.
    pub(super) fn position(&self) -> Option<Position> {
        self.key.map(|(position, ..)| position)
    }

    /// The page's entity tag, quotes included.
    pub(super) fn etag(&self) -> &str {
        self.headers
            .get(ETAG)
            .and_then(|tag| tag.to_str().ok())
            .unwrap_or_default()
    }
}

/// Sets the headers that change without a position to what they are on a root.
pub(super) fn put_fresh(headers: &mut HeaderMap) {
    headers.insert(&AGE, HeaderValue::from_static("0"));
    headers.insert(&STALE, HeaderValue::from_static("false"));
}

/// Changes them to what they are after `age`.
pub(super) fn set_age(headers: &mut HeaderMap, age: Duration, stale: bool) {
    let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    // They stand first where pages are made: to find them so costs less than to hash a name.
    for (name, value) in headers.iter_mut() {
        if *name == AGE {
            *value = spelt(millis);
        } else if *name == STALE && stale {
            *value = HeaderValue::from_static("true");
        }
    }
}

/// A number as a header's value. Readers come in crowds and the same millisecond: the last one is
/// kept.
fn spelt(number: u64) -> HeaderValue {
    thread_local! {
        static LAST: RefCell<(u64, HeaderValue)> = const {
            RefCell::new((0, HeaderValue::from_static("0")))
        };
    }
    LAST.with_borrow_mut(|(last, value)| {
        if *last != number {
            *last = number;
            *value = HeaderValue::from(number);
        }
        value.clone()
    })
}

/// A header's value of what is printable ASCII by construction.
pub(super) fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("positions and fingerprints are printable ASCII")
}

/// The newest page of each representation, and the schema.
#[derive(Debug, Default)]
pub(super) struct Pages {
    text: ArcSwapOption<Page>,
    json: ArcSwapOption<Page>,
    html: ArcSwapOption<Page>,
    schema: ArcSwapOption<Page>,
}

/// What tells the tags of a node that follows these states from those of others.
pub(super) fn tagged(selection: Option<&Selection>) -> String {
    selection.map_or_else(String::new, |selection| {
        format!("-s{:016x}", selection.hash())
    })
}

impl Site {
    /// The states that the node follows, if not all. A root has all.
    pub(super) fn selection(&self) -> Option<Selection> {
        self.links.up.as_ref()?;
        self.view.selection()
    }

    /// The page that shows the newest moment, if there is one. Readers that meet at a new
    /// position may render it each: cheaper than to make one wait for the other.
    pub(super) fn page(&self, representation: Representation) -> Option<Arc<Page>> {
        let selection = self.selection();
        let selected = selection.as_ref().map(Selection::hash);
        let tier = self.view.tier();
        let key = (self.view.position()?, tier, selected);
        let slot = match representation {
            Representation::Text => &self.pages.text,
            Representation::Json => &self.pages.json,
            Representation::Html => &self.pages.html,
        };
        if let Some(page) = &*slot.load()
            && page.key == Some(key)
        {
            return Some(Arc::clone(page));
        }
        let now = self.view.snapshot()?;
        let key = (now.position(), tier, selected);
        let scene = Scene {
            node: &self.node,
            tier,
            schema: self.view.schema(),
            now: &now,
            selection: selection.as_ref(),
            list: self.links.config.select.as_deref(),
        };
        let body = match representation {
            Representation::Text => render::text(scene),
            Representation::Json => render::json(scene),
            Representation::Html => match self.page(Representation::Text) {
                Some(page) if page.key == Some(key) => page.body.clone(),
                _ => render::text(scene),
            },
        };
        let suffix = tagged(selection.as_ref());
        let mut page = Page::new(now.position(), representation, &suffix, body);
        page.key = Some(key);
        let page = Arc::new(page);
        slot.store(Some(Arc::clone(&page)));
        Some(page)
    }

    /// The schema. It never changes, and not everybody asks for it.
    pub(super) fn schema_page(&self) -> Arc<Page> {
        if let Some(page) = &*self.pages.schema.load() {
            return Arc::clone(page);
        }
        let schema = self.view.schema();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ETAG, ascii(&format!("\"{}-j\"", schema.fingerprint())));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let page = Arc::new(Page {
            key: None,
            headers,
            body: schema::json(schema),
        });
        self.pages.schema.store(Some(Arc::clone(&page)));
        page
    }
}
