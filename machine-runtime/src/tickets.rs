//! How mutations ended that handlers appended, for whoever has their queue tick.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use crate::write::Receipt;

/// How many outcomes of mutations that handlers appended are remembered.
pub const TICKETS: usize = 1024;

type Reply = oneshot::Sender<Receipt<u32>>;

#[derive(Debug, Default)]
pub(crate) struct Tickets {
    /// By queue tick, in the order in which they ended.
    ended: VecDeque<(u64, Receipt<u32>)>,
    asked: BTreeMap<u64, Vec<Reply>>,
    /// Answers that wait for the publication of what they tell.
    due: Vec<(Reply, Receipt<u32>)>,
}

impl Tickets {
    /// Answers once the mutation of `queue_tick` has ended. One that is gone, or never was any, is
    /// answered by dropping `reply`: nothing waits, and `now` is the queue tick.
    pub(crate) fn ask(&mut self, queue_tick: u64, reply: Reply, now: u64) {
        let known = self.ended.iter().find(|(tick, _)| *tick == queue_tick);
        if let Some((_, receipt)) = known {
            self.due.push((reply, receipt.clone()));
        } else if queue_tick > now {
            self.asked.retain(|_, replies| {
                replies.retain(|reply| !reply.is_closed());
                !replies.is_empty()
            });
            self.asked.entry(queue_tick).or_default().push(reply);
        }
    }

    /// The mutation of `queue_tick` has ended.
    pub(crate) fn end(&mut self, queue_tick: u64, receipt: Receipt<u32>) {
        let replies = self.asked.remove(&queue_tick).unwrap_or_default();
        let due = replies.into_iter().map(|reply| (reply, receipt.clone()));
        self.due.extend(due);
        if self.ended.len() == TICKETS {
            self.ended.pop_front();
        }
        self.ended.push_back((queue_tick, receipt));
    }

    /// Whatever took these queue ticks, up to `now`, was no mutation of a handler.
    pub(crate) fn forget(&mut self, now: u64) {
        let later = self.asked.split_off(&(now + 1));
        // That they drop is the answer.
        self.asked = later;
    }

    /// Sends the answers that are due. Whoever no longer waits has dropped its end.
    pub(crate) fn release(&mut self) {
        for (reply, receipt) in self.due.drain(..) {
            let _ = reply.send(receipt);
        }
    }
}
