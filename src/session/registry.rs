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
struct Entry {
    session: Arc<Session>,
    orders: mpsc::Sender<Order>,
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
    /// Enters a session; its orders arrive at what this returns.
    pub(crate) fn enter(&self, session: &Arc<Session>) -> mpsc::Receiver<Order> {
        let (orders, receiver) = mpsc::channel(ORDERS);
        self.lock().insert(session.id(), Entry { session: session.clone(), orders });
        receiver
    }
    /// Takes an ended session out.
    pub(crate) fn leave(&self, id: SessionId) {
        self.lock().remove(&id);
    }
    /// Passes an order on; says whether the session is here and could take it.
    pub(crate) fn order(&self, id: SessionId, order: Order) -> bool {
        let live = self.lock();
        match live.get(&id) {
            // An end must never wait behind other orders.
            Some(entry) => match order {
                Order::End { by, reason } => {
                    entry.session.control().end(super::end::End::Killed { by, reason });
                    true
                }
                order => entry.orders.try_send(order).is_ok(),
            },
            None => false,
        }
    }
    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.lock().values().map(|e| e.session.clone()).collect()
    }
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}
