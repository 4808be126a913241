//! Traces over HTTP: which mutations belong to one, and the span that each is.
//!
//! A node that tells nobody of traces does not look for them. One that does follows a `traceparent`
//! of W3C Trace Context, sampled or not, and begins a trace where there is none, as often as it is told
//! to. `tracestate` is for others than us and goes no further.

use std::time::SystemTime;

use hyper::header::{HeaderMap, HeaderName};
use machine_runtime::TraceContext;
use machine_runtime::observe::{Event, Interest, Observers, Span, SpanKind, Traced};
use warp::reply::Response;

use super::pages::{POSITION, ascii};

/// The span that a request is part of, and that an answer is of.
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Which mutations are traced, and who is told. None and nobody by default.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    observers: Observers,
    ratio: f64,
}

impl Traces {
    /// Tells these observers, as long as they want traces; of the requests that belong to none this
    /// part, 0 to 1, begins one.
    pub fn new(observers: &Observers, ratio: f64) -> Self {
        let observers = observers.clone();
        Self { observers, ratio }
    }

    /// The span of a mutation with these headers, if it is part of a trace that is kept.
    #[inline]
    pub(super) fn of_request(&self, headers: &HeaderMap) -> Option<Requested> {
        if self.observers.wants(Interest::TRACES) {
            self.follow(headers)
        } else {
            None
        }
    }

    fn follow(&self, headers: &HeaderMap) -> Option<Requested> {
        let parent = parent(headers);
        // What is sampled never, or always, is so whatever chance says.
        let sampled = parent.map_or_else(|| fastrand::f64() < self.ratio, |parent| parent.sampled);
        if !sampled {
            return None;
        }
        let root = || Traced {
            context: TraceContext::root(true),
            parent: None,
        };
        let traced = parent.map_or_else(root, Traced::within);
        Some(Requested {
            observers: self.observers.clone(),
            traced,
            began: SystemTime::now(),
            answered: false,
        })
    }
}

/// The context that a request came with. One that is there twice is none.
fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(&TRACEPARENT).iter();
    let value = values.next()?;
    let context = value.to_str().ok()?.parse().ok();
    context.filter(|_| values.next().is_none())
}

/// The span of a mutation under way. It is told when it drops: without an answer its client has gone,
/// and what was done for it all the same has a parent.
pub(super) struct Requested {
    observers: Observers,
    traced: Traced,
    began: SystemTime,
    answered: bool,
}

impl Requested {
    /// For what is done on its behalf.
    pub(super) fn context(&self) -> TraceContext {
        self.traced.context
    }

    /// Has `response` name the span, and tells it. `problem`: the code of what went wrong; without one
    /// the response is a receipt.
    pub(super) fn end(mut self, response: &mut Response, problem: Option<&'static str>) {
        self.answered = true;
        let status = response.status();
        let mut span = self.span();
        let code = status.as_str().to_owned();
        span.attributes.push(("http.response.status_code", code));
        let headers = response.headers_mut();
        match (problem, headers.get(&POSITION)) {
            (Some(problem), _) => span.attributes.push(("error.type", problem.to_owned())),
            (None, Some(position)) => {
                let position = position.to_str().unwrap_or_default().to_owned();
                span.attributes.push(("machine.position", position));
            }
            (None, None) => {}
        }
        if status.is_server_error() {
            span.error = Some(problem.unwrap_or("error").to_owned());
        }
        headers.insert(&TRACEPARENT, ascii(&self.traced.context.to_string()));
        self.tell(span);
    }

    fn span(&self) -> Span {
        let (traced, kind) = (self.traced, SpanKind::Server);
        let mut span = Span::ended(traced, kind, "POST /v1/mutations", self.began);
        span.attributes = vec![
            ("http.request.method", "POST".to_owned()),
            ("http.route", "/v1/mutations".to_owned()),
        ];
        span
    }

    fn tell(&self, span: Span) {
        self.observers.tell(Interest::TRACES, || Event::Span(span));
    }
}

impl Drop for Requested {
    fn drop(&mut self) {
        if !self.answered {
            let mut span = self.span();
            span.error = Some("the client has gone".to_owned());
            self.tell(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::header::CONTENT_TYPE;
    use hyper::{Request, StatusCode};
    use machine_runtime::observe::Observer;
    use machine_runtime::replica::SourceStats;
    use machine_runtime::{Epoch, Machine, Owner, ViewOptions};

    use super::*;
    use crate::fixture::Flights;
    use crate::http::client::Client;
    use crate::http::routes::Wishes;
    use crate::http::{Http, Site};
    use crate::links::{LinkConfig, Links};
    use crate::observe::{ObserveConfig, Observed};
    use crate::shutdown::Tasks;
    use crate::vitals::Vitals;

    const INCOMING: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// A root whose mutations are traced, and who is told of them.
    struct Root {
        site: Arc<Site>,
        spans: Option<Observer>,
        tasks: Tasks,
    }

    impl Root {
        /// One that begins this part of the traces; None: it tells nobody.
        fn new(ratio: Option<f64>) -> Self {
            let (handle, owner) =
                Owner::new(Machine::<Flights>::new(), Epoch(1), ViewOptions::default());
            let tasks = Tasks::default();
            let stopped = tasks.stopped();
            tasks.spawn(async move {
                owner.run(stopped).await;
            });
            let observers = Observers::new();
            let spans = ratio.map(|_| observers.attach("test", Interest::TRACES, 8));
            let mut config = ObserveConfig::new("test");
            config.trace_ratio = ratio.unwrap_or(1.0);
            let observed = Observed::new(config, observers);
            let links = Links::of_root(LinkConfig::default(), SourceStats::default());
            let http = Http::new(
                "root",
                "1.0.0",
                &handle,
                links,
                Vitals::default(),
                observed,
                crate::http::Guard::default(),
            );
            let site = http.unwrap().site;
            Self { site, spans, tasks }
        }

        /// Posts a mutation with these headers `traceparent`. Returns the answer's status, the
        /// span that it names, and the span that was told.
        async fn post(
            &mut self,
            traceparents: &[&str],
            body: &'static str,
        ) -> (StatusCode, Option<TraceContext>, Option<Span>) {
            let mut request =
                Request::post("/v1/mutations").header(CONTENT_TYPE, "application/json");
            for value in traceparents {
                request = request.header(&TRACEPARENT, *value);
            }
            let request = request.body(Full::new(Bytes::from(body))).unwrap();
            let wishes = Wishes::read(&request, &Client::Others);
            let response = self.site.write(request, &wishes, None).await;
            let named = response.headers().get(&TRACEPARENT);
            let named = named.map(|value| value.to_str().unwrap().parse().unwrap());
            let told = std::iter::from_fn(|| self.spans.as_mut()?.try_next());
            let told: Vec<_> = told.filter_map(|event| span(&event)).collect();
            assert!(told.len() < 2, "{told:?}");
            (response.status(), named, told.into_iter().next())
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            self.tasks.stop();
        }
    }

    fn span(event: &Event) -> Option<Span> {
        match event {
            Event::Span(span) if span.kind == SpanKind::Server => Some(span.clone()),
            _ => None,
        }
    }

    fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
        let found = span.attributes.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }

    const ADD: &str = r#"{"op":"add","states":["Flight1Delayed"]}"#;

    #[tokio::test]
    async fn a_trace_that_comes_is_followed_and_the_answer_names_the_span() {
        let mut root = Root::new(Some(0.0));
        let (status, named, told) = root.post(&[INCOMING], ADD).await;
        let (named, told) = (named.unwrap(), told.unwrap());
        assert_eq!(status, 200);
        let incoming: TraceContext = INCOMING.parse().unwrap();
        assert_eq!((named.trace, named.sampled), (incoming.trace, true));
        assert_ne!(named.span, incoming.span);
        assert_eq!(told.traced.context, named);
        assert_eq!(told.traced.parent, Some(incoming.span));
        assert_eq!((told.name, &told.error), ("POST /v1/mutations", &None));
        let position = root.site.view.position().unwrap().to_string();
        for (name, value) in [
            ("http.request.method", Some("POST")),
            ("http.route", Some("/v1/mutations")),
            ("http.response.status_code", Some("200")),
            ("machine.position", Some(position.as_str())),
            ("error.type", None),
        ] {
            assert_eq!(attribute(&told, name), value, "{name}");
        }
    }

    #[tokio::test]
    async fn a_trace_that_is_not_kept_is_not_ours_to_keep() {
        let mut root = Root::new(Some(1.0));
        let unsampled = INCOMING.replace("-01", "-00");
        let (status, named, told) = root.post(&[&unsampled], ADD).await;
        assert_eq!((status, named), (StatusCode::OK, None));
        assert!(told.is_none());
    }

    #[tokio::test]
    async fn without_a_trace_one_begins_as_often_as_it_is_to() {
        for wrong in [&[][..], &["00-0-0-01"], &[INCOMING, INCOMING]] {
            let mut always = Root::new(Some(1.0));
            let (_, named, told) = always.post(wrong, ADD).await;
            let (named, told) = (named.unwrap(), told.unwrap());
            assert_eq!(told.traced.context, named);
            assert_eq!(told.traced.parent, None);
            assert!(named.sampled && !INCOMING.contains(&format!("{:032x}", named.trace)));
            let mut never = Root::new(Some(0.0));
            let (_, named, told) = never.post(wrong, ADD).await;
            assert!(named.is_none() && told.is_none());
        }
    }

    #[tokio::test]
    async fn who_tells_nobody_does_not_look() {
        let mut root = Root::new(None);
        let (status, named, _) = root.post(&[INCOMING], ADD).await;
        assert_eq!((status, named), (StatusCode::OK, None));
    }

    #[tokio::test]
    async fn a_problem_says_which_and_is_an_error_if_it_is_ours() {
        let mut root = Root::new(Some(0.0));
        let (status, named, told) = root.post(&[INCOMING], "[]").await;
        let told = told.unwrap();
        assert_eq!((status, named.is_some()), (StatusCode::BAD_REQUEST, true));
        assert_eq!(attribute(&told, "error.type"), Some("bad_body"));
        assert_eq!(attribute(&told, "machine.position"), None);
        assert_eq!(told.error, None);
        root.tasks.finish(std::time::Duration::from_mins(1)).await;
        let (status, _, told) = root.post(&[INCOMING], ADD).await;
        let told = told.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(attribute(&told, "http.response.status_code"), Some("503"));
        assert_eq!(told.error.as_deref(), attribute(&told, "error.type"));
        assert!(told.error.is_some());
    }

    #[tokio::test]
    async fn a_client_that_goes_leaves_a_span() {
        let mut root = Root::new(Some(1.0));
        let traces = root.site.traces.clone();
        drop(traces.of_request(&HeaderMap::new()));
        let told = root.spans.as_mut().unwrap().try_next().unwrap();
        let told = span(&told).unwrap();
        assert_eq!(told.error.as_deref(), Some("the client has gone"));
    }
}
