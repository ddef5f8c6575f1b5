//! Servers that never come to an end: what they send is cut off, and nothing is made room for on their word.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::minio::location;
use super::super::requests::Asked;
use super::super::{Store, StoreError, s3};
use super::*;

/// What sockets hold between two processes, at most.
const ON_THE_WAY: usize = 16 << 20;

/// A server that answers each request with this head, and a body without an end. Counts the most that one answer sent.
async fn endless(head: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let most = Arc::new(AtomicUsize::new(0));
    let counted = most.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(send(stream, head, counted.clone()));
        }
    });
    (url, most)
}

async fn send(mut stream: TcpStream, head: &str, most: Arc<AtomicUsize>) {
    let _ = stream.read(&mut vec![0; 64 << 10]).await;
    let _ = stream.write_all(head.as_bytes()).await;
    let text = vec![b'x'; 64 << 10];
    let part = if head.contains("chunked") { [b"10000\r\n", &text[..], b"\r\n"].concat() } else { text };
    let mut sent = 0;
    // More than this is as bad as no end.
    while sent < 64 << 20 && stream.write_all(&part).await.is_ok() {
        sent += part.len();
    }
    most.fetch_max(sent, Ordering::Relaxed);
}

#[tokio::test]
async fn an_answer_without_an_end_is_given_up_after_a_few_megabytes() {
    let answers = [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        // A length for which no memory can be had.
        "HTTP/1.1 200 OK\r\nContent-Length: 4611686018427387904\r\n\r\n",
        "HTTP/1.1 403 X\r\nContent-Length: 4611686018427387904\r\n\r\n",
    ];
    join_all(answers.map(gives_up)).await;
}

async fn gives_up(head: &'static str) {
    let (url, most) = endless(head).await;
    let bucket = s3::open(&location(&url, "id", "secret")).unwrap();
    let (requests, _) = bucket.versions().unwrap();
    let garbled = StoreError::Garbled { server: url };
    let asked = requests.send(Asked { query: &[("versions", "")], ..Asked::default() }).await;
    assert_eq!(asked.unwrap_err(), garbled, "{head}");
    let store = Store::Bucket(bucket.clone());
    let (page, names) = tokio::join!(store.page("", None, 5), store.names(""));
    assert_eq!((page.unwrap_err(), names.unwrap_err()), (garbled.clone(), garbled.clone()), "{head}");
    if !head.contains("200") {
        assert_eq!(store.get("key").await.unwrap_err(), garbled, "{head}");
    }
    let most = most.load(Ordering::Relaxed);
    assert!(most <= ANSWER_LIMIT + ON_THE_WAY, "{head}: {most} bytes were taken");
}

#[tokio::test]
async fn an_object_has_no_more_bytes_than_the_server_said_and_none_than_fit() {
    let headers = "ETag: \"a\"\r\nLast-Modified: Wed, 21 Oct 2026 07:28:00 GMT\r\n";
    let huge = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 4611686018427387904\r\n\r\n").leak();
    let (url, most) = endless(huge).await;
    let store = Store::Bucket(s3::open(&location(&url, "id", "secret")).unwrap());
    assert!(matches!(store.get("key").await, Err(StoreError::TooLarge { .. })));
    assert!(most.load(Ordering::Relaxed) <= ON_THE_WAY);

    let range = "Content-Range: bytes 0-99/100\r\nTransfer-Encoding: chunked\r\n";
    let (url, most) = endless(format!("HTTP/1.1 206 X\r\n{headers}{range}\r\n").leak()).await;
    let store = Store::Bucket(s3::open(&location(&url, "id", "secret")).unwrap());
    assert!(store.get_range("key", 0, 100).await.unwrap_err().is_transient());
    assert!(most.load(Ordering::Relaxed) <= ON_THE_WAY);
}
