//! A claim that lies in a hostile bucket: it is read, and judged, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reprise::core::claim::record::Claim;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(claim) = Claim::parse(bytes) {
        assert_eq!(Claim::parse(&claim.to_bytes()).as_ref(), Ok(&claim), "what was read is written as it was");
    }
});
