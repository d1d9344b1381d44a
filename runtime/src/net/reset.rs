//! What lets a peer know at once that a controller was restarted.
//!
//! A controller that was killed has said nothing to its peers, and its next life knows nothing of their connections. QUIC's
//! answer to packets of a forgotten connection is the stateless reset: a token that only the node which named the connection
//! can compute (RFC 9000, section 10.3). It is computed with a key that outlives the process, so that the next life gives
//! the same tokens; without that, peers would wait for their idle timeout.

use std::{sync::Arc, time::Duration};

use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig,
    crypto::{CryptoError, HmacKey},
};

use super::identity::Identity;

/// What separates this use of a node's private key from every other. To change it is to be silent after one restart.
const CONTEXT: &str = "engineroom 2026 key of stateless resets";

/// The length of connection ids, in bytes: at random they never meet one of an earlier life.
const CONNECTION_ID_BYTES: usize = 8;

/// No two resets are closer. quinn's 20 ms would let a thousand engines find out for half a minute; this is still no work
/// for the controller, and each reset is shorter than what it answers.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Makes the resets of an endpoint those of its node, whichever life of the node they come from. For nodes that are dialled,
/// which have one endpoint at a time: the tokens of two would be each other's.
pub(crate) fn make_stable(config: &mut EndpointConfig, identity: &Identity) {
    let key = blake3::derive_key(CONTEXT, identity.key.secret_der());
    config.reset_key(Arc::new(ResetKey(key))).cid_generator(|| Box::new(RandomIds)).min_reset_interval(INTERVAL_MIN);
}

struct ResetKey([u8; blake3::KEY_LEN]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        blake3::Hasher::new_keyed(&self.0).update(data).finalize_xof().fill(signature_out);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // Compared in constant time, by the type of the hash.
        let expected = blake3::keyed_hash(&self.0, data);
        match <[u8; blake3::OUT_LEN]>::try_from(signature) {
            Ok(signature) if expected == blake3::Hash::from(signature) => Ok(()),
            _ => Err(CryptoError),
        }
    }
}

/// Takes every id for one of its own. quinn's usual generator marks its ids with a key of its life, and is silent where an
/// id does not fit it.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; CONNECTION_ID_BYTES]>())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_signs_alike_in_every_life_and_unlike_another() {
        let sign = |key: &ResetKey, data: &[u8]| {
            let mut signature = vec![0; key.signature_len()];
            key.sign(data, &mut signature);
            signature
        };
        let key = |secret: &[u8]| ResetKey(blake3::derive_key(CONTEXT, secret));
        let signed = sign(&key(b"one"), b"id");
        assert_eq!(signed, sign(&key(b"one"), b"id"));
        assert_ne!(signed, sign(&key(b"two"), b"id"));
        assert_ne!(signed, sign(&key(b"one"), b"ie"));
        assert!(key(b"one").verify(b"id", &signed).is_ok());
        for wrong in [&signed[1..], &[signed.as_slice(), &[0]].concat(), &[]] {
            assert!(key(b"one").verify(b"id", wrong).is_err());
        }
        assert!(key(b"two").verify(b"id", &signed).is_err());
    }
}
