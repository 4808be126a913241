//! A connection to a parent: how it is opened, agreed on and used.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tarpc::context::{self, Context};
use tokio::time::{Instant, sleep_until, timeout};

use super::parents::{Dial, Parents, Scouting};
use super::{Follower, GRACE, Granularity, Lost};
use crate::observe::LinkChange;
use crate::replica::caller::Caller;
use crate::replica::connect::Connect;
use crate::replica::link::{Edge, LinkState, tidy_name};
use crate::replica::source::{millis, relay};
use crate::replica::wire::{
    Blob, Hello, News, OLDEST_PROTOCOL, PROTOCOL, Refusal, Watch, Welcome, Wishes,
};
use crate::schema::{Difference, Fingerprint, as_index};
use crate::selection::Selection;

/// How long the handshake may take. The parent may use most of it to become ready itself.
const HANDSHAKE: Duration = Duration::from_secs(8);

/// After how many answers in a row that could not be used a parent is left.
const UNUSABLE: u32 = 3;

/// How soon it is looked first whether a parent that is to be preferred is back; then it takes twice as long
/// each time.
const PREFER_FIRST: Duration = Duration::from_millis(100);

/// What drives a connection; it resolves when that ends, and says why.
pub(super) type Dispatch = Pin<Box<dyn Future<Output = String> + Send>>;

/// An open connection to one of the parents.
pub(super) struct Opened {
    pub(super) index: usize,
    pub(super) client: Caller,
    pub(super) dispatch: Dispatch,
}

/// How a connection ends.
pub(super) enum End {
    Lost(Lost),
    /// There is a better parent.
    Moved(Opened),
}

impl Follower {
    /// Follows one parent after the other, until there is none to go to.
    pub(super) async fn session<C: Connect>(&mut self, parents: &mut Parents<C>) -> Lost {
        let (dial, epoch) = (self.dial(), self.position.map(|position| position.epoch));
        let mut opened = match parents.choose(&dial, epoch).await {
            Ok(opened) => opened,
            Err(lost) => return lost,
        };
        loop {
            match self.with(opened, parents).await {
                End::Lost(lost) => return lost,
                End::Moved(next) => opened = next,
            }
        }
    }

    async fn with<C: Connect>(&mut self, opened: Opened, parents: &mut Parents<C>) -> End {
        let Opened {
            index,
            client,
            dispatch,
        } = opened;
        let end = tokio::select! {
            biased;
            why = dispatch => End::Lost(Lost::Rpc(why)),
            end = self.follow(&client, index, parents) => end,
        };
        self.sessions.end();
        if let End::Lost(lost) = &end {
            parents.avoid(index, lost);
        }
        end
    }

    async fn follow<C: Connect>(
        &mut self,
        client: &Caller,
        index: usize,
        parents: &mut Parents<C>,
    ) -> End {
        match self.greet(client, index).await {
            Ok(protocol) => self.sessions.begin(client.speaking(protocol)),
            Err(lost) => return End::Lost(lost),
        }
        let mut scouting: Option<Scouting> = None;
        let mut rest = Instant::now();
        // Where a tree comes up, the parent that is to be preferred is often there in a moment.
        let mut pause = self.options.prefer_every.min(PREFER_FIRST);
        let mut prefer = rest + pause;
        loop {
            if let Some(observers) = self.publisher.shared().observers() {
                observers.keep_up().await;
            }
            let heartbeat = self.options.heartbeat;
            let asked_at = Instant::now();
            let late = asked_at + heartbeat / 4 * 7;
            let asked = self.ask(client.clone());
            let mut asked = std::pin::pin!(asked);
            let news = loop {
                let now = Instant::now();
                let worried = self.parent_age > self.worry() || now >= late;
                if scouting.is_none() && parents.has_others() && now >= rest {
                    let epoch = self.position.map(|position| position.epoch);
                    if worried {
                        let stale = self.publisher.shared().is_stale();
                        scouting = Some(parents.better(&self.dial(), index, epoch, stale));
                    } else if index > 0 && now >= prefer {
                        pause = (2 * pause).min(self.options.prefer_every);
                        prefer = now + pause;
                        scouting = Some(parents.earlier(&self.dial(), index, epoch));
                    }
                }
                let mut wake = if worried { rest } else { late };
                if index > 0 {
                    wake = wake.min(prefer);
                }
                let wake = wake.max(rest);
                tokio::select! {
                    biased;
                    news = &mut asked => break news,
                    found = async {
                        match &mut scouting {
                            Some(scouting) => scouting.await,
                            None => std::future::pending().await,
                        }
                    } => {
                        scouting = None;
                        rest = Instant::now() + heartbeat / 2;
                        if let Some(opened) = found {
                            return End::Moved(opened);
                        }
                    }
                    () = sleep_until(wake), if scouting.is_none() && parents.has_others() => {}
                }
            };
            // Longer than the parent holds a question it was on its way: over a slow link, or to a
            // process that stood still.
            let held = heartbeat + relay(heartbeat);
            let under_way = asked_at.elapsed().saturating_sub(held);
            let taken = news.and_then(|news| self.take(news, under_way));
            if let Err(lost) = taken {
                return End::Lost(lost);
            }
            if self.unusable >= UNUSABLE {
                self.unusable = 0;
                return End::Lost(Lost::Untrusted("its answers cannot be used"));
            }
        }
    }

    /// From which age of its parent on it looks for another: while there is time left until it is stale
    /// itself, and not between two heartbeats.
    pub(super) fn worry(&self) -> Duration {
        let heartbeat = self.options.heartbeat / 4 * 5;
        (self.options.view.stale_after / 2).max(heartbeat)
    }

    fn dial(&self) -> Dial {
        Dial {
            max_frame: self.max_frame(),
            token: self.options.token.clone(),
            observers: self.publisher.shared().observers().cloned(),
            worry: self.worry(),
            age: (self.publisher.shared().age(), Instant::now()),
        }
    }

    /// Shakes hands; returns the version that both speak.
    async fn greet(&mut self, client: &Caller, index: usize) -> Result<u16, Lost> {
        let wanted = self.options.selection.as_ref();
        let wanted = wanted.filter(|wanted| !wanted.is_all());
        let granularity = self.options.granularity;
        let mut hello = Hello {
            fingerprint: self.schema.fingerprint().0,
            node: self.options.name.clone(),
            position: self.position,
            wishes: Wishes {
                selection: wanted.map(|wanted| Blob(wanted.to_bytes())),
                has: self.selection.as_ref().map(Selection::hash),
                push_interval_ms: millis(self.options.push_interval),
                heartbeat_ms: millis(self.options.heartbeat),
                every: granularity == Granularity::Every,
                compress: self.options.compress,
            },
            token: self.options.token.token(),
        };
        let mut protocol = PROTOCOL;
        let (asked_at, body) = loop {
            let body = hello.encode(protocol);
            let asked_at = Instant::now();
            let answer = within(HANDSHAKE, |ctx| client.hello(ctx, protocol, body)).await??;
            match answer {
                Ok(body) => break (asked_at, body),
                Err(Refusal::Protocol(older)) if (OLDEST_PROTOCOL..protocol).contains(&older) => {
                    if wanted.is_some() {
                        return Err(Lost::Refused(format!(
                            "the parent speaks protocol {older}, in which a link has no selection"
                        )));
                    }
                    if self.selection.is_some() {
                        // It cannot be told of what we have, and would go on from there.
                        hello.position = None;
                    }
                    protocol = older;
                }
                Err(refusal) => return Err(self.refused(client, refusal).await?),
            }
        };
        let mut welcome = Welcome::decode(&body, protocol)?;
        let given = match &welcome.terms.selection {
            None => None,
            Some(bits) => {
                let given = Selection::from_bytes(&bits.0, self.schema.len());
                Some(given.ok_or(Lost::Untrusted("it gives states that there are not"))?)
            }
        };
        let within_wanted = match (wanted, &given) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(given)) => wanted.and(given) == *given,
        };
        if !within_wanted {
            return Err(Lost::Untrusted("it gives states that were not asked for"));
        }
        self.offered = given;
        let tier = welcome.tier.saturating_add(1);
        welcome.node = tidy_name(&welcome.node);
        self.parent.clone_from(&welcome.node);
        let news = crate::replica::wire::unpack(welcome.news, self.max_frame())?;
        let is_snapshot = matches!(news, News::Snapshot { .. });
        if hello.position.is_some() && !is_snapshot && self.offered != self.selection {
            return Err(Lost::Untrusted("it goes on from other states than we have"));
        }
        // Only a parent with something to give counts: any other is dialled with growing pauses. One that
        // has it answers at once, so it was on its way for as long as that took.
        self.take(news, asked_at.elapsed())?;
        self.publisher.shared().set_tier(tier);
        self.link.count_connect();
        tracing::info!(target: super::TARGET, node = self.options.name, parent = welcome.node, "following");
        self.tell_link(LinkChange::Connected);
        let pushed = Duration::from_millis(welcome.terms.push_interval_ms.into());
        self.link.agree(Edge {
            parent: welcome.node.clone(),
            index,
            protocol,
            tier: welcome.tier,
            push_interval: pushed,
            heartbeat: self.options.heartbeat,
            granularity,
            compress: self.options.compress && protocol > 1,
            max_frame: self.max_frame(),
            selection: self.offered.clone(),
        });
        self.link.set(LinkState::Following {
            parent: welcome.node,
        });
        Ok(protocol)
    }

    /// Asks for what comes after our position.
    fn ask(&self, client: Caller) -> impl Future<Output = Result<News, Lost>> + use<> {
        let (heartbeat, after) = (self.options.heartbeat, self.position);
        let (granularity, resync) = (self.options.granularity, self.resync.is_some());
        async move {
            let Some(after) = after else {
                // Only a parent that shut down in between welcomes without a first snapshot.
                return Err(Lost::NotReady);
            };
            let watch = Watch {
                after,
                every: granularity == Granularity::Every,
                resync,
                hold_ms: millis(heartbeat),
            };
            let patience = heartbeat + GRACE;
            Ok(within(patience, |ctx| client.watch(ctx, watch)).await??)
        }
    }

    async fn refused(&self, client: &Caller, refusal: Refusal) -> Result<Lost, Lost> {
        Ok(match refusal {
            Refusal::NotReady => Lost::NotReady,
            Refusal::Closing => Lost::Closing,
            Refusal::Full => Lost::Full,
            Refusal::Malformed => Lost::Refused("the parent could not read our hello".to_owned()),
            Refusal::Protocol(theirs) => Lost::Refused(format!(
                "we speak protocols {OLDEST_PROTOCOL} to {PROTOCOL}, the parent {theirs}; their releases \
                 may be one version apart"
            )),
            Refusal::NothingSelected => {
                Lost::Refused("the parent shows none of the states that we select".to_owned())
            }
            Refusal::Denied(known) => Lost::Refused(self.denied(known)),
            Refusal::Fingerprint(theirs) => {
                let difference = self.difference(client).await?;
                let difference = difference.map_or_else(
                    || "no state differs, only what the fingerprint covers besides".to_owned(),
                    |difference| difference.to_string(),
                );
                Lost::Refused(format!(
                    "our schema is {}, the parent's {}: {difference}",
                    self.schema.fingerprint(),
                    Fingerprint(theirs)
                ))
            }
        })
    }

    /// Why a parent does not admit us.
    fn denied(&self, known: bool) -> String {
        let why = match (known, self.options.token.token()) {
            (true, _) => "it knows who this is, whom it does not let follow",
            (false, Some(_)) => {
                "it does not know the token, nor a certificate, that this node shows"
            }
            (false, None) => "this node shows no token, and no certificate that it knows",
        };
        format!("the parent does not admit this node: {why}")
    }

    /// Where our schema and the parent's differ first.
    async fn difference(&self, client: &Caller) -> Result<Option<Difference>, Lost> {
        let ours = as_index(self.schema.len());
        let mut next = 0;
        loop {
            let page = within(HANDSHAKE, |ctx| client.schema(ctx, next)).await??;
            if page.is_empty() {
                return Ok((next != ours).then_some(Difference::Count {
                    ours: ours as usize,
                    theirs: next as usize,
                }));
            }
            for theirs in &page {
                if next < ours {
                    let difference = self.schema.difference(next as usize, theirs);
                    if difference.is_some() {
                        return Ok(difference);
                    }
                }
                next += 1;
            }
        }
    }
}

/// Makes a call and gives up after `patience` in any case: a deadline of tarpc's only starts once
/// the question is written, and where it passes both sides log an error. So it is the later one.
pub(super) async fn within<F: Future>(
    patience: Duration,
    call: impl FnOnce(Context) -> F,
) -> Result<F::Output, Lost> {
    let mut ctx = context::current();
    ctx.deadline = std::time::Instant::now() + 2 * patience;
    timeout(patience, call(ctx))
        .await
        .map_err(|_elapsed| Lost::Timeout)
}
