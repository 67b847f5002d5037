//! Terminals in the browser: what the web interface asks of whoever opens them.

use std::{fmt, net::SocketAddr};

use async_trait::async_trait;
use bytes::Bytes;
use cofferdam_access::{
    decision::Factors,
    ids::{Login, Name},
};
use tokio::sync::mpsc;

/// Who wants a terminal, proved already, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalRequest {
    /// The person.
    pub user: Name,
    /// The address of their browser's connection.
    pub source: SocketAddr,
    /// What they proved: at the log-in, and again for this terminal.
    pub factors: Factors,
    /// The machine.
    pub asset: Name,
    /// The account there.
    pub login: Login,
    /// The browser's terminal.
    pub size: Size,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

impl Size {
    /// Most columns, and most rows.
    const MOST: u16 = 1000;

    /// What a browser says, within bounds.
    pub fn within_bounds(columns: u32, rows: u32) -> Self {
        let fit = |n: u32| u16::try_from(n).unwrap_or(Self::MOST).clamp(1, Self::MOST);
        Self { columns: fit(columns), rows: fit(rows) }
    }
}

/// From the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Keys.
    Bytes(Bytes),
    /// Their terminal has another size now.
    Size(Size),
}

/// For the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// For their screen.
    Bytes(Bytes),
    /// It is over, and this is why. Nothing follows.
    Ended(String),
}

/// An open terminal. Both queues are short: who does not read stops the other side. Dropping it ends its session.
#[derive(Debug)]
pub struct Terminal {
    /// What the person does.
    pub typed: mpsc::Sender<Typed>,
    /// What the person sees.
    pub shown: mpsc::Receiver<Shown>,
}

/// Opens terminals: sessions like any other, with the same decision, record, watch and end.
#[async_trait]
pub trait Terminals: Send + Sync + fmt::Debug {
    /// Opens one. What policy refuses is shown on the screen, as with SSH.
    ///
    /// # Errors
    /// Why none can be opened, for the person.
    async fn open(&self, request: TerminalRequest) -> Result<Terminal, String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_never_nothing_and_never_huge() {
        assert_eq!(Size::within_bounds(0, 100_000), Size { columns: 1, rows: 1000 });
        assert_eq!(Size::within_bounds(132, 43), Size { columns: 132, rows: 43 });
    }
}
