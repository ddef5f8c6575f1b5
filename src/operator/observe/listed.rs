//! Lists, read to their end: page by page, and no more than fits.
//!
//! A list that is cut off in silence makes points that lack volumes and count as whole. So one that is longer than
//! [`MOST`] is an error that says so.

use std::fmt::Debug;

use kube::{Api, api::ListParams};
use serde::de::DeserializeOwned;

use crate::operator::shell::Error;

/// Objects of a page.
const PAGE: u32 = 500;
/// Objects of a list: a pass has a minute, and what is kept of them lies in memory.
pub const MOST: usize = 20_000;

/// Hands over each object that fits the parameters. A continued list is of one moment.
///
/// # Errors
/// What the API server says, and `TooMany` when there are more than [`MOST`].
pub async fn each<K>(api: &Api<K>, params: ListParams, what: &str, mut take: impl FnMut(K)) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let (mut page, mut count) = (params.limit(PAGE), 0);
    loop {
        let list = api.list(&page).await.map_err(Error::observe(what))?;
        count += list.items.len();
        let next = list.metadata.continue_.filter(|it| !it.is_empty());
        if count > MOST || count == MOST && next.is_some() {
            return Err(Error::TooMany { what: what.to_owned() });
        }
        list.items.into_iter().for_each(&mut take);
        match next {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// All objects that fit the parameters.
///
/// # Errors
/// As [`each`].
pub async fn all<K>(api: &Api<K>, params: ListParams, what: &str) -> Result<Vec<K>, Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut found = Vec::new();
    each(api, params, what, |it| found.push(it)).await?;
    Ok(found)
}

/// The same; nothing of a kind that is not served.
///
/// # Errors
/// As [`each`].
pub async fn all_if_served<K>(api: &Api<K>, params: ListParams, what: &str) -> Result<Vec<K>, Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    match all(api, params, what).await {
        // By the code: the answer for a kind that is not served has no JSON body, and so no reason.
        Err(Error::Observe { source, .. }) if matches!(&*source, kube::Error::Api(it) if it.code == 404) => {
            Ok(Vec::new())
        }
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::Uri, routing::get};
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::played;

    /// An API server with so many claims, in pages as they are asked for.
    async fn claims(count: usize) -> Api<PersistentVolumeClaim> {
        let list = move |uri: Uri| async move {
            let asked = |name: &str| uri.query()?.split('&').find_map(|it| it.strip_prefix(&format!("{name}=")));
            let begin: usize = asked("continue").map_or(0, |it| it.parse().unwrap());
            let end = count.min(begin + asked("limit").unwrap().parse::<usize>().unwrap());
            let next = if end < count { end.to_string() } else { String::new() };
            let claim = |it: usize| json!({"metadata": {"name": format!("data-{it}")}});
            json!({"metadata": {"continue": next}, "items": (begin..end).map(claim).collect::<Vec<Value>>()})
                .to_string()
        };
        let path = "/api/v1/namespaces/shop/persistentvolumeclaims";
        Api::namespaced(played::client(Router::new().route(path, get(list))).await, "shop")
    }

    #[tokio::test]
    async fn the_claim_after_the_first_page_is_seen() {
        let found = all(&claims(501).await, ListParams::default(), "claims").await.unwrap();
        assert_eq!((found.len(), found[500].metadata.name.as_deref()), (501, Some("data-500")));
    }

    #[tokio::test]
    async fn more_than_fit_are_an_error_that_says_so_and_never_a_shorter_list() {
        assert_eq!(all(&claims(MOST).await, ListParams::default(), "claims").await.unwrap().len(), MOST);
        let error = all(&claims(MOST + 1).await, ListParams::default(), "claims of shop").await.unwrap_err();
        assert!(error.to_string().contains("more than 20000 claims of shop"), "{error}");
    }
}
