//! A bundle of objects from a hostile bucket: read whole, without a panic, in bounded memory, and nothing in it names
//! a place outside of it.
#![no_main]

use std::{io::Write, ops::ControlFlow};

use libfuzzer_sys::{Corpus, fuzz_target};
use reprise::capture::bundle::Bundle;

/// The first byte chooses: the bytes as they are; or compressed first, since nothing else gets past the checksum.
fn archive(bytes: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = bytes.split_first()?;
    if first % 8 == 0 {
        return Some(rest.to_vec());
    }
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).ok()?;
    encoder.write_all(rest).ok()?;
    encoder.finish().ok()
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some(archive) = archive(bytes) else { return Corpus::Reject };
    let bundle = Bundle::from_bytes(archive.into());
    let index = bundle.index();
    let read = bundle.visit(
        |_| true,
        |object| {
            let told = index.as_ref().expect("there are no objects without an index");
            assert!(told.kinds.iter().any(|it| it.group == object.id.group && it.kind == object.id.kind));
            assert!(!object.id.name.contains('/'));
            ControlFlow::Continue(())
        },
    );
    drop(read);
    Corpus::Keep
});
