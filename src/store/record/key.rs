//! The key of a delivery, which its public id spells out.

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

/// A delivery's key: the event it carries and a tag of the sink it goes to. Its public id spells it out,
/// so finding a delivery by id needs no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// The event's number.
    pub event: u64,
    /// The first bytes of SHA-256 over the event's id and the sink's name.
    pub tag: [u8; 8],
}

impl DeliveryKey {
    /// Returns the key of an event's delivery to `sink`.
    #[must_use]
    pub fn new(event: u64, event_id: &str, sink: &str) -> Self {
        let digest = Sha256::new().chain_update(event_id).chain_update([0]).chain_update(sink).finalize();
        let mut tag = [0; 8];
        tag.copy_from_slice(&digest[..8]);
        Self { event, tag }
    }

    /// Returns the public id, `dlv_…`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("dlv_{}", BASE32_NOPAD.encode(&self.to_bytes()).to_ascii_lowercase())
    }

    /// Reads a public id. Returns `None` if it is none.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let text = id.strip_prefix("dlv_")?.to_ascii_uppercase();
        Self::from_bytes(&BASE32_NOPAD.decode(text.as_bytes()).ok()?)
    }

    /// Returns the key as bytes, which sort like the keys themselves.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.event.to_be_bytes(), self.tag].concat()
    }

    /// Reads the key back from its bytes. Returns `None` if they are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (event, tag) = bytes.split_first_chunk::<8>()?;
        Some(Self { event: u64::from_be_bytes(*event), tag: tag.try_into().ok()? })
    }

    /// Returns the first key that a delivery of `event` may have.
    pub(in crate::store) const fn first_of(event: u64) -> Self {
        Self { event, tag: [0; 8] }
    }

    /// Returns the last key that a delivery of `event` may have.
    pub(in crate::store) const fn last_of(event: u64) -> Self {
        Self { event, tag: [u8::MAX; 8] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_id_spells_its_key() {
        let key = DeliveryKey::new(7, "evt_abc", "app");
        assert_eq!(DeliveryKey::parse(&key.id()), Some(key));
        assert_eq!(DeliveryKey::from_bytes(&key.to_bytes()), Some(key));
        assert_ne!(key, DeliveryKey::new(7, "evt_abc", "archive"));
        for bad in ["", "dlv_", "dlv_!!", "evt_aaaa", &key.id()[..20]] {
            assert_eq!(DeliveryKey::parse(bad), None, "{bad}");
        }
    }
}
