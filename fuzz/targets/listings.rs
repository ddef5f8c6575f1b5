//! What a hostile server answers when it is asked for lists: of objects, by S3 and by Azure, and of versions. It is read
//! and refused, without a panic.
#![no_main]

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use libfuzzer_sys::{Corpus, fuzz_target};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{ClientOptions, RetryConfig};
use reprise::vault::versions::Page;
use tokio::runtime::{Builder, Runtime};

/// A server that gives every request the same answer.
#[derive(Clone, Debug, Default)]
struct Server(Arc<Mutex<Bytes>>);

impl HttpConnector for Server {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Server {
    async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        let body = self.0.lock().expect("nothing panics with it").clone();
        Ok(http::Response::new(HttpResponseBody::from(body)))
    }
}

struct Stores {
    server: Server,
    s3: Box<dyn PaginatedListStore>,
    azure: Box<dyn PaginatedListStore>,
    runtime: Runtime,
}

thread_local! {
    static STORES: RefCell<Stores> = RefCell::new(Stores::new());
}

impl Stores {
    fn new() -> Self {
        let (server, retry) = (Server::default(), RetryConfig { max_retries: 0, ..RetryConfig::default() });
        let s3 = AmazonS3Builder::new()
            .with_bucket_name("bucket")
            .with_region("region")
            .with_access_key_id("id")
            .with_secret_access_key("secret")
            .with_retry(retry.clone())
            .with_http_connector(server.clone());
        let azure = MicrosoftAzureBuilder::new()
            .with_account("account")
            .with_container_name("container")
            .with_access_key("a2V5")
            .with_retry(retry)
            .with_http_connector(server.clone());
        let (s3, azure) = (s3.build().expect("a client"), azure.build().expect("a client"));
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { server, s3: Box::new(s3), azure: Box::new(azure), runtime }
    }

    fn list(&self, store: &dyn PaginatedListStore, bytes: &[u8]) {
        *self.server.0.lock().expect("nothing panics with it") = Bytes::copy_from_slice(bytes);
        let listed = store.list_paginated(Some("prefix/"), PaginatedListOptions::default());
        drop(self.runtime.block_on(listed));
    }
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((first, rest)) = bytes.split_first() else { return Corpus::Reject };
    STORES.with_borrow(|stores| match first % 3 {
        0 => stores.list(&*stores.s3, rest),
        1 => stores.list(&*stores.azure, rest),
        _ => drop(std::str::from_utf8(rest).map(quick_xml::de::from_str::<Page>)),
    });
    Corpus::Keep
});
