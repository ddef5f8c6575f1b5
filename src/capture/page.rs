//! Lists of one kind: page by page, and each page object by object.
//!
//! A list is the bulk of every capture, so it is walked once: an object is built, handed over and dropped before the
//! next one, and `managedFields`, often the larger half of an object and of no use here, is skipped unbuilt.

use std::fmt;

use http::Request;
use kube::{Client, api::ListParams, core::Request as Build};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::call::{self, CallError, DEADLINE};

/// How many objects are asked for at once.
pub const PAGE: u32 = 500;

/// The largest page in bytes. A larger one is asked for again with fewer objects.
pub const LARGEST_PAGE: u64 = 8 << 20;

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// How many objects the next page has at most.
    limit: u32,
    /// The server's mark; none at the start.
    token: Option<String>,
}

impl Default for Place {
    fn default() -> Self {
        Self { limit: PAGE, token: None }
    }
}

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The server did not give the page.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The page is not a list of objects.
    #[error("read a page of the list: {0}")]
    Content(#[source] serde_json::Error),
}

impl PageError {
    /// The reason in one or two words, the same each time.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Call(error) => error.reason(),
            Self::Content(_) => "unreadable list".to_owned(),
        }
    }

    /// Whether the list has changed too much since its first page, and must be read from the start.
    #[must_use]
    pub fn expired(&self) -> bool {
        matches!(self, Self::Call(error) if error.code() == Some(410))
    }
}

/// Fetches the page at a place, and says where the next one is.
///
/// # Errors
/// When the server refuses, or one object alone is larger than a page may be.
pub async fn fetch(
    client: &Client,
    path: &str,
    filter: Option<&str>,
    mut at: Place,
) -> Result<(Vec<u8>, Option<Place>), PageError> {
    loop {
        let answer = call::ask(DEADLINE, || async {
            let request = request(path, filter, &at).map_err(kube::Error::BuildRequest)?;
            call::send(client, request, LARGEST_PAGE).await
        });
        match answer.await {
            // Objects may be a thousand times larger than usual: fewer of them then, for the rest of this list.
            Err(CallError::TooLarge(_)) if at.limit > 1 => at.limit = (at.limit / 8).max(1),
            Err(error) => return Err(error.into()),
            Ok(body) => {
                let head: Head = serde_json::from_slice(&body).map_err(PageError::Content)?;
                let token = head.metadata.and_then(|it| it.next).filter(|it| !it.is_empty());
                let next = token.map(|it| Place { limit: at.limit, token: Some(it) });
                return Ok((body, next));
            }
        }
    }
}

fn request(path: &str, filter: Option<&str>, at: &Place) -> Result<Request<Vec<u8>>, kube::core::request::Error> {
    let mut list = ListParams::default().limit(at.limit);
    list.continue_token.clone_from(&at.token);
    list.field_selector = filter.map(str::to_owned);
    Build::new(path).list(&list)
}

/// Reads a whole list into memory. For lists that are known to be short.
///
/// # Errors
/// As `fetch`.
pub async fn all(client: &Client, path: &str, filter: Option<&str>) -> Result<Vec<Value>, PageError> {
    let (mut objects, mut at) = (Vec::new(), Some(Place::default()));
    while let Some(place) = at {
        let (body, next) = fetch(client, path, filter, place).await?;
        each(&body, |object| objects.push(object)).map_err(PageError::Content)?;
        at = next;
    }
    Ok(objects)
}

/// What a page says about itself. Its objects are passed over, which is much faster than building them.
#[derive(Deserialize)]
struct Head {
    metadata: Option<ListHead>,
}

#[derive(Deserialize)]
struct ListHead {
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Hands over the objects of a page, one after another, without their `managedFields`.
///
/// # Errors
/// When the page is not a list of JSON objects.
pub fn each(body: &[u8], mut visit: impl FnMut(Value)) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    List(&mut visit).deserialize(&mut json)?;
    json.end()
}

struct List<'a, F>(&'a mut F);

impl<'de, F: FnMut(Value)> DeserializeSeed<'de> for List<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Value)> Visitor<'de> for List<'_, F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                found = true;
                map.next_value_seed(Items(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(A::Error::missing_field("items")) }
    }
}

struct Items<'a, F>(&'a mut F);

impl<'de, F: FnMut(Value)> DeserializeSeed<'de> for Items<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, F: FnMut(Value)> Visitor<'de> for Items<'_, F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("objects")
    }

    // Some aggregated API servers write an empty list as null.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(object) = items.next_element_seed(Without { key: "metadata", within: true })? {
            (self.0)(object);
        }
        Ok(())
    }
}

/// Builds an object: the outer one whole but for its metadata, the metadata without `managedFields`.
struct Without {
    key: &'static str,
    within: bool,
}

impl<'de> DeserializeSeed<'de> for Without {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Without {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            if key != self.key {
                let value = from.next_value()?;
                map.insert(key, value);
            } else if self.within {
                let inner = from.next_value_seed(Self { key: "managedFields", within: false })?;
                map.insert(key, inner);
            } else {
                from.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects(page: &Value) -> Result<Vec<Value>, serde_json::Error> {
        let mut found = Vec::new();
        each(page.to_string().as_bytes(), |it| found.push(it)).map(|()| found)
    }

    #[test]
    fn objects_come_whole_but_for_their_managed_fields() {
        let page = json!({"kind": "List", "metadata": {"continue": "x"}, "items": [
            {"metadata": {"name": "a", "managedFields": [{"manager": "m"}]}, "spec": {"metadata": {"managedFields": 1}}},
            {"metadata": {"name": "b"}, "data": null}]});
        assert_eq!(
            objects(&page).expect("a list"),
            [
                json!({"metadata": {"name": "a"}, "spec": {"metadata": {"managedFields": 1}}}),
                json!({"metadata": {"name": "b"}, "data": null})
            ]
        );
    }

    #[test]
    fn an_empty_list_may_be_null_but_must_be_there() {
        assert_eq!(objects(&json!({"items": null})).expect("a list"), [] as [Value; 0]);
        assert!(objects(&json!({"kind": "Status"})).is_err());
        assert!(objects(&json!({"items": [3]})).is_err());
    }

    #[test]
    fn the_head_of_a_page_says_where_the_next_one_is() {
        let head = |text| serde_json::from_str::<Head>(text).expect("a page").metadata.and_then(|it| it.next);
        assert_eq!(head(r#"{"metadata":{"continue":"abc"},"items":[{"a":[1,{"b":2}]}]}"#), Some("abc".into()));
        assert_eq!(head(r#"{"metadata":{"resourceVersion":"4"},"items":[]}"#), None);
    }
}
