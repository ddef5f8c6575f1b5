//! What lies in a vault in the clear and is signed: `{"point":{…},"mac":"…"}`, and the same of a head, of what was
//! found out about a point, and of which points stay.
//!
//! The envelope is put together by hand, since the MAC is over the exact bytes of what is in it.

use bytes::Bytes;

use super::keys::{Keys, Signed};

const MAC: &str = ",\"mac\":\"";
const END: &str = "\"}";

fn beginning(of: Signed) -> &'static str {
    match of {
        Signed::Point => "{\"point\":",
        Signed::Head => "{\"head\":",
        Signed::Verified => "{\"verified\":",
        Signed::Kept => "{\"kept\":",
    }
}

/// Puts JSON of an application into its envelope.
pub(super) fn sign(keys: &Keys, of: Signed, (namespace, application): (&str, &str), json: &str) -> Bytes {
    let mac = keys.mac(of, namespace, application, json.as_bytes());
    Bytes::from(format!("{}{json}{MAC}{mac}{END}", beginning(of)))
}

/// The JSON in an envelope, if it was signed with this vault's key, for this application. Otherwise what is wrong.
pub(super) fn open<'a>(
    keys: &Keys,
    of: Signed,
    (namespace, application): (&str, &str),
    bytes: &'a [u8],
) -> Result<&'a str, &'static str> {
    let text = std::str::from_utf8(bytes).ok();
    let inner = text.and_then(|text| text.strip_prefix(beginning(of))?.strip_suffix(END)?.rsplit_once(MAC));
    let (json, mac) = inner.ok_or(match of {
        Signed::Point => "it is not a point",
        Signed::Head => "it is not a head",
        Signed::Verified => "it is not a note about a point",
        Signed::Kept => "it is not a list of points",
    })?;
    if keys.mac_fits(of, namespace, application, json.as_bytes(), mac) {
        Ok(json)
    } else {
        Err("it was not written with this vault's key, or was changed since")
    }
}
