//! Who asks, and how much of a node each of them takes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::door::counted;
use crate::limits::{Limit, Limits};

/// How many clients are told apart. Beyond that, which takes so many addresses within a second or with
/// something under way, all others share what one client has.
const MOST: usize = 65_536;

/// How many are known at least before those are forgotten that have nothing under way.
const FEW: usize = 1024;

/// How much may come at once of what is limited by rate: what comes in so long on average.
const BURST: Duration = Duration::from_secs(1);

/// Who asks, as far as limits go: who authenticated by name, everybody else by address. IPv6 addresses of one
/// network are one client, as who has one has all.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Client {
    /// Who has shown to be this.
    Name(Arc<str>),
    /// Whoever asks from this address, or from the /64 that begins so.
    Address(IpAddr),
    /// All for whom there is no room.
    Others,
}

impl Client {
    /// Whoever asks from an address.
    pub(super) fn at(addr: IpAddr) -> Self {
        Self::Address(counted(addr))
    }
}

/// What a client can have several of at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Share {
    Wait,
    Stream,
    Write,
}

impl Share {
    fn most(self, limits: &Limits) -> (usize, Limit) {
        match self {
            Self::Wait => (limits.waits_per_client, Limit::WaitsPerClient),
            Self::Stream => (limits.streams_per_client, Limit::StreamsPerClient),
            Self::Write => (limits.writes_per_client, Limit::WritesPerClient),
        }
    }
}

/// What each client has under way. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients {
    // Nothing awaits under it.
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    clients: HashMap<Client, Usage>,
    /// How many have come since those were forgotten that had nothing under way.
    came: usize,
}

/// What one has under way.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    shares: [usize; 3],
    /// When all that it wrote would have come, had it kept to its rate.
    paid: Option<Instant>,
}

impl Usage {
    fn is_idle(&self, now: Instant) -> bool {
        self.shares == [0; 3] && self.paid.is_none_or(|paid| paid <= now)
    }
}

impl Table {
    /// What is known of a client, and under which name.
    fn of(&mut self, client: &Client, now: Instant) -> (Client, &mut Usage) {
        let mut key = client.clone();
        if !self.clients.contains_key(client) {
            self.came += 1;
            // So seldom that it costs each of them as much as if there were few.
            if self.came > FEW.max(self.clients.len() / 2) {
                self.came = 0;
                self.clients.retain(|_, usage| !usage.is_idle(now));
                self.clients.shrink_to(2 * FEW);
            }
            if self.clients.len() >= MOST {
                key = Client::Others;
            }
        }
        let usage = self.clients.entry(key.clone()).or_default();
        (key, usage)
    }
}

impl Clients {
    /// Has a client take one more of something, until the guard drops.
    ///
    /// # Errors
    ///
    /// The limit that it has come to.
    pub(super) fn take(
        &self,
        client: &Client,
        share: Share,
        limits: &Limits,
    ) -> Result<Taken, Limit> {
        let mut table = self.lock();
        let (client, usage) = table.of(client, Instant::now());
        let (most, limit) = share.most(limits);
        let taken = &mut usage.shares[share as usize];
        if *taken >= most {
            return Err(limit);
        }
        *taken += 1;
        drop(table);
        Ok(Taken {
            clients: self.clone(),
            client,
            share,
        })
    }

    /// Has a client write something, which happens so often a second at most.
    ///
    /// # Errors
    ///
    /// If it wrote more of late.
    pub(super) fn pay(&self, client: &Client, limits: &Limits) -> Result<(), Limit> {
        if limits.write_rate == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let mut table = self.lock();
        let (_, usage) = table.of(client, now);
        let paid = usage.paid.map_or(now, |paid| paid.max(now)) + BURST / limits.write_rate;
        if paid > now + BURST {
            return Err(Limit::WriteRate);
        }
        usage.paid = Some(paid);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a client has taken, until it drops.
#[derive(Debug)]
pub(super) struct Taken {
    clients: Clients,
    client: Client,
    share: Share,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut table = self.clients.lock();
        if let Some(usage) = table.clients.get_mut(&self.client) {
            usage.shares[self.share as usize] -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Client {
        Client::at(text.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1:2:3"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
        assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
    }

    #[test]
    fn each_client_has_its_share_until_it_gives_it_back() {
        let limits = Limits {
            waits_per_client: 2,
            writes_per_client: 1,
            ..Limits::default()
        };
        let (clients, one, other) = (Clients::default(), client("10.0.0.1"), client("10.0.0.2"));
        let take = |client, share| clients.take(client, share, &limits);
        let first = take(&one, Share::Wait).unwrap();
        let _second = take(&one, Share::Wait).unwrap();
        assert_eq!(take(&one, Share::Wait).unwrap_err(), Limit::WaitsPerClient);
        let _write = take(&one, Share::Write).unwrap();
        assert_eq!(
            take(&one, Share::Write).unwrap_err(),
            Limit::WritesPerClient
        );
        assert!(take(&other, Share::Wait).is_ok());
        drop(first);
        assert!(take(&one, Share::Wait).is_ok());
    }

    #[test]
    fn a_client_writes_as_much_at_once_as_in_a_second() {
        let limits = Limits {
            write_rate: 10,
            ..Limits::default()
        };
        let (clients, one) = (Clients::default(), client("10.0.0.1"));
        let began = Instant::now();
        let taken = (0..100)
            .filter(|_| clients.pay(&one, &limits).is_ok())
            .count();
        // What came in since, if this took long.
        let most = 10 + 10 * (usize::try_from(began.elapsed().as_secs()).unwrap() + 1);
        assert!((10..=most).contains(&taken), "{taken} of {most}");
        assert!(clients.pay(&client("10.0.0.2"), &limits).is_ok());
        let unlimited = Limits {
            write_rate: 0,
            ..limits
        };
        assert!((0..100).all(|_| clients.pay(&one, &unlimited).is_ok()));
    }

    #[test]
    fn however_many_come_only_so_many_are_known() {
        let limits = Limits::default();
        let clients = Clients::default();
        let of = |i: u32| Client::at(std::net::Ipv4Addr::from(i).into());
        let all = (0..66_000).map(|i| clients.take(&of(i), Share::Wait, &limits).unwrap());
        let mut held: Vec<_> = all.collect();
        assert_eq!(clients.lock().clients.len(), MOST + 1);
        held.clear();
        for i in 0..40_000 {
            clients
                .take(&of(1 << 24 | i), Share::Write, &limits)
                .unwrap();
        }
        let known = clients.lock().clients.len();
        assert!(known <= 3 * FEW, "{known}");
    }
}
