//! `ssh -J vera@gw root@pump-hmi`: the inner SSH connection ends at the gateway, which shows a host certificate of its
//! own authority; what follows is a session like any other.

use std::sync::Arc;

use cofferdam_access::ids::Name;
use russh::{Channel, server};

use super::{connection::Connection, front::Front, listener, wire::Wire};

/// Serves SSH to `asset` inside a channel of a connection whose person is known already: the inner log-in asks nothing.
pub(crate) async fn serve(outer: Arc<Connection>, channel: Channel<server::Msg>, asset: Name) {
    let config = match outer.gateway.jump_config(&asset) {
        Ok(config) => config,
        Err(why) => {
            tracing::warn!(asset = %asset, why, "no host certificate for a jump");
            // The client sees the channel close.
            channel.close().await.unwrap_or_default();
            return;
        }
    };
    // The inner connection lives no longer than the outer one, and can be cut without it.
    let cut = outer.cut.child_token();
    let front = Front::inside(outer.gateway.clone(), outer.identity.clone(), asset, cut.clone());
    listener::run(config, Wire::new(channel.into_stream(), &cut), front, cut).await;
}
