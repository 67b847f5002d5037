//! The live sessions of this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cofferdam_access::ids::SessionId;
use tokio::sync::mpsc;

use super::{live::Session, orders::Order};

/// Orders that may wait for one session.
const ORDERS: usize = 16;

#[derive(Debug)]
enum Entry {
    /// In the store already, and so visible to people with orders, but not live yet.
    Opening(Vec<Order>),
    Live {
        session: Arc<Session>,
        orders: mpsc::Sender<Order>,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    live: Mutex<HashMap<SessionId, Entry>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Announces a session that is about to open: orders for it are kept until it is live.
    pub(crate) fn reserve(&self, id: SessionId) {
        self.lock().insert(id, Entry::Opening(Vec::new()));
    }
    /// Enters a session; its orders, those given meanwhile first, arrive at what this returns.
    pub(crate) fn enter(&self, session: &Arc<Session>) -> mpsc::Receiver<Order> {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let live = Entry::Live { session: session.clone(), orders };
        let before = self.lock().insert(session.id(), live);
        if let Some(Entry::Opening(waiting)) = before {
            for order in waiting {
                self.order(session.id(), order);
            }
        }
        receiver
    }
    /// Takes an ended session out.
    pub(crate) fn leave(&self, id: SessionId) {
        self.lock().remove(&id);
    }
    /// Passes an order on; says whether the session is here and could take it.
    pub(crate) fn order(&self, id: SessionId, order: Order) -> bool {
        let mut live = self.lock();
        match live.get_mut(&id) {
            Some(Entry::Opening(waiting)) if waiting.len() < ORDERS => {
                waiting.push(order);
                true
            }
            // An end must never wait behind other orders.
            Some(Entry::Live { session, orders }) => match order {
                Order::End { by, reason } => {
                    session.control().end(super::end::End::Killed { by, reason });
                    true
                }
                order => orders.try_send(order).is_ok(),
            },
            _ => false,
        }
    }
    /// One of them.
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        match self.lock().get(&id) {
            Some(Entry::Live { session, .. }) => Some(session.clone()),
            _ => None,
        }
    }
    /// Whether it waits for somebody who watches.
    pub(crate) fn waits(&self, id: SessionId) -> bool {
        self.get(id).is_some_and(|s| s.is_supervised() && s.watchers() == 0)
    }
    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.lock()
            .values()
            .filter_map(|entry| match entry {
                Entry::Live { session, .. } => Some(session.clone()),
                Entry::Opening(_) => None,
            })
            .collect()
    }
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}
