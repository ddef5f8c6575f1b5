//! A connection: whether somebody accepts it. Nothing is sent.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::{
    probe::{Route, unresolved},
    traffic::resolve::Resolve,
};

/// A connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Tcp {
    /// A name or an address.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// Where the host stands, for people.
    pub(super) field: String,
}

impl Tcp {
    pub(super) async fn ask(&self, resolve: &Resolve, route: &Route) -> Result<(), String> {
        let addresses = match route.address_of(&self.host) {
            Some(address) => vec![address],
            None => resolve.lookup(&self.host).await.map_err(|it| unresolved(&it, &self.field))?,
        };
        let mut reason = String::new();
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(address, self.port)).await {
                Ok(_) => return Ok(()),
                Err(error) => reason = error.kind().to_string(),
            }
        }
        Err(reason)
    }
}
