//! Which SSH algorithms are offered, toward people and toward targets.

use std::borrow::Cow;

use russh::{
    Preferred, cipher, compression, kex,
    keys::{Algorithm, EcdsaCurve, HashAlg},
    mac,
};

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::DH_GEX_SHA256,
    kex::DH_G18_SHA512,
    kex::DH_G16_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// AES-GCM first: with AES instructions it costs a third of ChaCha20.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];

const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// What people's clients are offered: nothing old. No compression: it tells an observer about content, and a
/// compressed flood costs more than a plain one.
pub(crate) fn toward_people() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(HOST_KEYS),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// What a target is offered: the same, preferring host keys of the kinds that are pinned, and, at the end, the old
/// algorithms that the asset names as needed. An unknown name is the error.
pub(crate) fn toward_target(pinned: &[Algorithm], dangerous: &[String]) -> Result<Preferred, String> {
    let mut offered = toward_people();
    offered.key.to_mut().sort_by_key(|algorithm| !pinned.iter().any(|p| same_kind(p, algorithm)));
    for name in dangerous {
        if matches!(name.as_str(), "none" | "clear") {
            return Err(format!("{name:?} is no algorithm at all, and never offered"));
        }
        if let Ok(algorithm) = kex::Name::try_from(name.as_str()) {
            offered.kex.to_mut().insert(KEX.len() - 4, algorithm);
        } else if let Ok(algorithm) = cipher::Name::try_from(name.as_str()) {
            offered.cipher.to_mut().push(algorithm);
        } else if let Ok(algorithm) = mac::Name::try_from(name.as_str()) {
            offered.mac.to_mut().push(algorithm);
        } else if name == "ssh-rsa" {
            offered.key.to_mut().push(Algorithm::Rsa { hash: None });
        } else if name == "ssh-dss" {
            offered.key.to_mut().push(Algorithm::Dsa);
        } else {
            return Err(format!("{name:?} is no algorithm that this program knows"));
        }
    }
    Ok(offered)
}

fn same_kind(a: &Algorithm, b: &Algorithm) -> bool {
    matches!((a, b), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. })) || a == b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_algorithms_are_offered_only_when_named() {
        let plain = toward_target(&[], &[]).unwrap();
        assert!(!plain.cipher.contains(&cipher::AES_128_CBC));
        assert!(!plain.kex.contains(&kex::DH_G14_SHA1));
        assert!(!plain.key.contains(&Algorithm::Rsa { hash: None }));
        let old = ["aes128-cbc", "diffie-hellman-group14-sha1", "ssh-rsa", "hmac-sha1"].map(str::to_owned);
        let weak = toward_target(&[], &old).unwrap();
        assert!(weak.cipher.contains(&cipher::AES_128_CBC));
        assert!(weak.kex.contains(&kex::DH_G14_SHA1));
        assert!(weak.key.contains(&Algorithm::Rsa { hash: None }));
        assert!(weak.mac.contains(&mac::HMAC_SHA1));
        assert_eq!(weak.cipher.first(), Some(&cipher::AES_256_GCM), "still the last resort");
        assert!(toward_target(&[], &["none".to_owned()]).is_err());
        assert!(toward_target(&[], &["rot13".to_owned()]).is_err());
    }

    #[test]
    fn the_kind_of_the_pinned_key_comes_first() {
        let offered = toward_target(&[Algorithm::Rsa { hash: None }], &[]).unwrap();
        assert_eq!(offered.key.first(), Some(&Algorithm::Rsa { hash: Some(HashAlg::Sha512) }));
    }
}
