//! An API server that is played, for the tests of this folder: what it answers is the test's.

use axum::Router;
use kube::Client;

/// A client of a server that answers as the router says, until the test ends.
pub async fn client(router: Router) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Client::try_from(kube::Config::new(format!("http://{address}").parse().unwrap())).unwrap()
}
