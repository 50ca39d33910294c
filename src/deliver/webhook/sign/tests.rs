use bytes::Bytes;
use proptest::prelude::*;
use standardwebhooks::Webhook;

use super::*;
use crate::{
    deliver::{
        encode::wrapping::Wrapping,
        message::{Body, Message},
    },
    util::{clock, units::Time},
};

fn secret(key: &[u8]) -> Secret {
    Secret::new(format!("whsec_{}", STANDARD.encode(key)))
}

fn signer(keys: &[&[u8]]) -> Signer {
    Signer::new(keys.iter().map(|key| SecretSource::Inline(secret(key))).collect(), None).unwrap()
}

fn raw(body: Body) -> Payload {
    let mut message = Message::test("evt_1".to_owned(), Time(0), "");
    message.body = body;
    Payload::of(&message, Wrapping::Raw)
}

#[test]
fn the_vector_of_the_reference_implementation_holds() {
    let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let signer = Signer::new(vec![SecretSource::Inline(secret)], None);
    let payload = raw(Body::Inline(Bytes::from_static(b"{\"test\": 2432232314}")));
    let signature = signer.unwrap().sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, &payload);
    assert_eq!(signature.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn a_bad_secret_is_told_without_showing_it() {
    let short = STANDARD.encode([7; 23]);
    let long = STANDARD.encode([7; 65]);
    for (text, wrong) in [
        ("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", BadSecret::Prefix),
        ("", BadSecret::Prefix),
        ("whpk_c2VjcmV0", BadSecret::Public),
        ("whsec_c2Vj*mV0", BadSecret::Base64("whsec_")),
        ("whsk_c2Vj*mV0", BadSecret::Base64("whsk_")),
        ("whsk_c2VjcmV0", BadSecret::PrivateLength(6)),
        (&format!("whsk_{}", STANDARD.encode([7; 33])), BadSecret::PrivateLength(33)),
        (&format!("whsk_{}", STANDARD.encode([7; 64])), BadSecret::Mismatch),
        (&format!("whsk_{}", STANDARD.encode([7; 65])), BadSecret::PrivateLength(65)),
        ("whsec_", BadSecret::Length(0)),
        (&format!("whsec_{short}"), BadSecret::Length(23)),
        (&format!("whsec_{long}"), BadSecret::Length(65)),
    ] {
        let error = check_secret(&Secret::new(text)).unwrap_err();
        assert_eq!(error, wrong, "{text}");
        assert!(!error.to_string().contains("c2Vj"), "{error}");
    }
    assert_eq!(check_secret(&Secret::new(secret(&[9; 25]).expose().trim_end_matches('='))), Ok(()));
}

#[test]
fn every_secret_signs_in_order_and_a_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, secret(&[1; 32]).expose()).unwrap();
    let file = SecretSource::of(None, Some(&path)).unwrap();
    let both = Signer::new(vec![file, SecretSource::Inline(secret(&[2; 32]))], None).unwrap();
    let payload = raw(Body::Null);
    let one = |key: u8| signer(&[&[key; 32]]).sign("evt_1", 7, &payload).unwrap();
    assert_eq!(both.sign("evt_1", 7, &payload).unwrap(), format!("{} {}", one(1), one(2)));
    std::fs::write(&path, format!("{} ", secret(&[3; 32]).expose())).unwrap();
    assert_eq!(both.sign("evt_1", 7, &payload).unwrap(), format!("{} {}", one(3), one(2)));
    std::fs::write(&path, "whsec_short").unwrap();
    both.sign("evt_1", 7, &payload).unwrap_err();
}

proptest! {
    #[test]
    fn signatures_are_those_of_the_reference_implementation(
        key in proptest::collection::vec(any::<u8>(), 24..=64),
        id in "[a-zA-Z0-9_]{1,40}",
        timestamp in 0_i64..10_000_000_000,
        body in "\\PC{1,2000}",
    ) {
        let payload = raw(Body::Inline(body.clone().into()));
        let ours = signer(&[&key]).sign(&id, timestamp, &payload).unwrap();
        let theirs = Webhook::new(secret(&key).expose()).unwrap();
        prop_assert_eq!(&ours, &theirs.sign(&id, timestamp, body.as_bytes()).unwrap());

        let now = clock::now().unix_seconds();
        let rotating = signer(&[&[0; 24], &key]).sign(&id, now, &payload).unwrap();
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", now.into());
        headers.insert("webhook-signature", rotating.parse().unwrap());
        theirs.verify(body.as_bytes(), &headers).unwrap();
        let other = body + " ";
        theirs.verify(other.as_bytes(), &headers).unwrap_err();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_file_signs_like_the_same_bytes_in_memory(body in proptest::collection::vec(any::<u8>(), 1..200_000)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job");
        std::fs::write(&path, &body).unwrap();
        let file = raw(Body::Stored { body: crate::store::StoredBody::in_file(path), size: body.len() as u64 });
        let signer = signer(&[&[5; 32]]);
        let inline = raw(Body::Inline(body.into()));
        prop_assert_eq!(signer.sign("e", 1, &file).unwrap(), signer.sign("e", 1, &inline).unwrap());
    }
}

/// A `whsk_` of this seed, with or without its public half.
fn private(seed: [u8; 32], whole: bool) -> Secret {
    let pair = SigningKey::from_bytes(&seed);
    let bytes = if whole { pair.to_keypair_bytes().to_vec() } else { seed.to_vec() };
    Secret::new(format!("whsk_{}", STANDARD.encode(bytes)))
}

#[test]
fn ed25519_makes_the_signatures_of_rfc_8032() {
    // Section 7.1, test 3.
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    let seed = hex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7");
    let signature = hex(concat!(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac",
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ));
    let pair = ed25519(&seed).unwrap();
    let made = twice_read(&pair, |take| {
        take(&[0xaf]);
        take(&[0x82]);
        Ok(())
    });
    assert_eq!(made.unwrap().to_vec(), signature);
}

#[test]
fn both_forms_of_a_private_key_are_one_key_and_tell_their_public_key() {
    let signers = [true, false]
        .map(|whole| Signer::new(vec![SecretSource::Inline(private([7; 32], whole))], None).unwrap());
    let payload = raw(Body::Null);
    let [whole, seed] = signers.each_ref().map(|signer| signer.sign("evt_1", 7, &payload).unwrap());
    assert_eq!(whole, seed);
    let [whole, seed] = signers.map(|signer| signer.public_keys().unwrap());
    assert_eq!(whole, seed);
    let public = STANDARD.encode(SigningKey::from_bytes(&[7; 32]).verifying_key());
    assert_eq!(whole, [format!("whpk_{public}")]);
}

#[test]
fn a_message_that_changes_between_its_readings_is_not_signed() {
    let pair = SigningKey::from_bytes(&[7; 32]);
    let count = std::cell::Cell::new(0_u8);
    let changing = twice_read(&pair, |take| {
        count.set(count.get() + 1);
        take(&[count.get()]);
        Ok(())
    });
    assert!(matches!(changing, Err(SignError::Changed)), "{changing:?}");
    let gone = twice_read(&pair, |_| Err(io::Error::other("gone").into()));
    assert_eq!(gone.unwrap_err().to_string(), "the stored job cannot be read: gone");
}

#[test]
fn a_file_of_secrets_signs_with_each_of_them_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets");
    let (new, old) = (private([1; 32], false), secret(&[2; 32]));
    std::fs::write(&path, format!("# new\n{}\n\n{}\n", new.expose(), old.expose())).unwrap();
    let signer = Signer::new(vec![], Some(SecretList::file(&path))).unwrap();
    let payload = raw(Body::Null);
    let signed = signer.sign("evt_1", 7, &payload).unwrap();
    let one = |secret: &Secret| signature(secret, "evt_1", "7", b"null").unwrap();
    assert_eq!(signed, format!("{} {}", one(&new), one(&old)));
    assert!(signed.starts_with("v1a,") && signed.contains(" v1,"));
    std::fs::write(&path, old.expose()).unwrap();
    assert_eq!(signer.sign("evt_1", 7, &payload).unwrap(), one(&old));
}

proptest! {
    #[test]
    fn ed25519_signatures_verify_with_the_public_key_alone(
        seed: [u8; 32],
        id in "[a-zA-Z0-9_]{1,40}",
        timestamp in 0_i64..10_000_000_000,
        body in proptest::collection::vec(any::<u8>(), 1..2000),
    ) {
        let secrets = vec![SecretSource::Inline(private(seed, true))];
        let payload = raw(Body::Inline(body.clone().into()));
        let signed = Signer::new(secrets, None).unwrap().sign(&id, timestamp, &payload).unwrap();
        let bytes = STANDARD.decode(signed.strip_prefix("v1a,").unwrap()).unwrap();
        let signature = ed25519_dalek::Signature::from_slice(&bytes).unwrap();
        let public = SigningKey::from_bytes(&seed).verifying_key();
        let mut message = format!("{id}.{timestamp}.").into_bytes();
        message.extend(&body);
        public.verify_strict(&message, &signature).unwrap();
        message.push(b' ');
        public.verify_strict(&message, &signature).unwrap_err();
    }
}
