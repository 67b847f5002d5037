//! Licences in the place of a client that has waited at a desktop of our own: it was told there that it needs none, and the
//! target may see that otherwise (MS-RDPELE 1.3.3).
//!
//! The licence that a target gives is for the client's machine, by its name, and is kept by nobody: the target gives the same
//! one again.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::rdp::server_license::{
    ClientNewLicenseRequest, ClientPlatformChallengeResponse, LicenseEncryptionData, LicensePdu,
    ServerLicenseRequest,
};

use crate::rewrite::Broken;

/// The longest key that a licence server is taken at its word with, as DER: some 4300 bits. A longer one costs too much time.
const KEY: usize = 560;

/// How far it is.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    Begins,
    /// A licence was asked for.
    Asked(LicenseEncryptionData),
    /// The client's machine was described.
    Described(LicenseEncryptionData),
    Over,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Licensing {
    stage: Stage,
    /// What the client calls its machine.
    machine: String,
}

impl Licensing {
    /// For a client's machine of that name.
    pub(super) fn of(machine: &str) -> Self {
        Self { machine: machine.to_owned(), ..Self::default() }
    }

    /// What is answered to a PDU of the licensing, for the target's account `user`.
    pub(super) fn hears(&mut self, payload: &[u8], user: &str) -> Result<Option<Vec<u8>>, Broken> {
        let said: LicensePdu = decode(payload).map_err(|_| Broken("licence"))?;
        let answer = match (std::mem::take(&mut self.stage), said) {
            (Stage::Begins, LicensePdu::ServerLicenseRequest(request)) => {
                let (asked, keys) = ask(&request, user, &self.machine)?;
                self.stage = Stage::Asked(keys);
                LicensePdu::from(asked)
            }
            (Stage::Asked(keys), LicensePdu::ServerPlatformChallenge(challenge)) => {
                let hardware = hardware(&self.machine);
                let described = ClientPlatformChallengeResponse::from_server_platform_challenge(
                    &challenge, hardware, &keys,
                );
                self.stage = Stage::Described(keys);
                described.map_err(|_| Broken("challenge of the licensing"))?.into()
            }
            (Stage::Asked(keys) | Stage::Described(keys), LicensePdu::ServerUpgradeLicense(licence)) => {
                licence.verify_server_license(&keys).map_err(|_| Broken("licence"))?;
                self.stage = Stage::Over;
                return Ok(None);
            }
            // None is needed, or none is given, after which the target closes.
            (Stage::Begins | Stage::Asked(_) | Stage::Described(_), LicensePdu::LicensingErrorMessage(_)) => {
                self.stage = Stage::Over;
                return Ok(None);
            }
            _ => return Err(Broken("licence at this point")),
        };
        encode_vec(&answer).map(Some).map_err(|_| Broken("licence request"))
    }
}

fn ask(
    request: &ServerLicenseRequest,
    user: &str,
    machine: &str,
) -> Result<(ClientNewLicenseRequest, LicenseEncryptionData), Broken> {
    let broken = Broken("licence request of the target");
    let key = request.get_public_key().ok().flatten().ok_or(broken)?;
    if key.len() > KEY {
        return Err(broken);
    }
    let (mut client, mut premaster) = ([0; 32], [0; 48]);
    let random = rand::fill(&mut client).and_then(|()| rand::fill(&mut premaster));
    random.map_err(|_| Broken("no random numbers"))?;
    ClientNewLicenseRequest::from_server_license_request(request, &client, &premaster, user, machine)
        .map_err(|_| broken)
}

/// What a machine of that name is known by: always the same.
fn hardware(machine: &str) -> [u32; 4] {
    let digest = digest(&SHA256, machine.as_bytes());
    let mut words = digest.as_ref().as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    [(); 4].map(|()| words.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use ironrdp_pdu::rdp::server_license::{ServerCertificate, cert::CertificateType};

    use super::*;
    use crate::{
        mcs,
        relay::captured::{XFREERDP, of},
    };

    const VALID_CLIENT: [u8; 20] = [0x80, 0, 0, 0, 0xff, 3, 0x10, 0, 7, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0];

    /// A challenge under the keys of [`asked`].
    fn challenge() -> Vec<u8> {
        let head = [0x80, 0, 0, 0, 2, 3, 0x26, 0, 0, 0, 0, 0, 0, 0, 10, 0];
        let challenge = [0x26, 0x38, 0x88, 0x77, 0xcb, 0xe8, 0xbf, 0xce, 0x2c, 0x51];
        let mac =
            [0x51, 0x4a, 0x27, 0x2c, 0x74, 0x18, 0xec, 0x88, 0x95, 0xdd, 0xac, 0x10, 0x3e, 0x3f, 0x0a, 0x72];
        [&head[..], &challenge, &mac].concat()
    }

    fn asked() -> Licensing {
        let mac_salt_key = vec![
            0x01, 0x5b, 0x9e, 0x5f, 0x06, 0x97, 0x71, 0x58, 0xc3, 0xb8, 0x8b, 0x8c, 0x6e, 0x77, 0x21, 0x37,
        ];
        let license_key = vec![
            0xe1, 0x78, 0xe4, 0xa0, 0x2a, 0xc5, 0xca, 0xb8, 0xa2, 0xd1, 0x53, 0xb8, 0x07, 0x23, 0xf3, 0xd2,
        ];
        let keys = LicenseEncryptionData { premaster_secret: Vec::new(), mac_salt_key, license_key };
        Licensing { stage: Stage::Asked(keys), ..Licensing::of("PC-7") }
    }

    #[test]
    fn a_target_that_needs_no_licence_is_not_answered() {
        let mut licensing = Licensing::of("PC-7");
        assert_eq!(licensing.hears(&VALID_CLIENT, "eng"), Ok(None));
        assert!(licensing.hears(&VALID_CLIENT, "eng").is_err(), "it is over");
    }

    #[test]
    fn a_challenge_is_answered_under_the_keys_that_were_agreed_on_and_once() {
        let mut licensing = asked();
        let answer = licensing.hears(&challenge(), "eng").unwrap().unwrap();
        assert!(matches!(decode(&answer), Ok(LicensePdu::ClientPlatformChallengeResponse(_))));
        assert!(licensing.hears(&challenge(), "eng").is_err());
        let mut other = challenge();
        *other.last_mut().unwrap() ^= 1;
        assert!(asked().hears(&other, "eng").is_err(), "another MAC");
        assert!(Licensing::of("PC-7").hears(&challenge(), "eng").is_err(), "nothing was agreed on");
    }

    /// What xrdp asks.
    fn request() -> Vec<u8> {
        let asked = of(XFREERDP, false).into_iter().find(|pdu| pdu.len() == 337).unwrap();
        mcs::data(&asked, mcs::INDICATION).unwrap().payload.to_vec()
    }

    #[test]
    fn a_licence_is_asked_for_in_the_names_of_account_and_machine_and_once() {
        let mut licensing = Licensing::of("PC-7");
        let asked = licensing.hears(&request(), "eng").unwrap().unwrap();
        let Ok(LicensePdu::ClientNewLicenseRequest(asked)) = decode(&asked) else { panic!("{asked:?}") };
        assert_eq!((asked.client_username.as_str(), asked.client_machine_name.as_str()), ("eng", "PC-7"));
        let another = Licensing::of("PC-7").hears(&request(), "eng").unwrap().unwrap();
        let Ok(LicensePdu::ClientNewLicenseRequest(another)) = decode(&another) else { panic!() };
        assert_ne!(asked.client_random, another.client_random);
        assert!(licensing.hears(&request(), "eng").is_err(), "once");
        assert_eq!(
            Licensing { stage: licensing_after_request(), ..Licensing::of("PC-7") }
                .hears(&VALID_CLIENT, "eng"),
            Ok(None)
        );
    }

    fn licensing_after_request() -> Stage {
        let mut licensing = Licensing::of("PC-7");
        licensing.hears(&request(), "eng").unwrap();
        licensing.stage
    }

    #[test]
    fn a_key_that_would_cost_too_much_time_is_refused() {
        let said = request();
        let Ok(LicensePdu::ServerLicenseRequest(mut request)) = decode(&said) else { panic!() };
        let Some(ServerCertificate { certificate: CertificateType::Proprietary(known), .. }) =
            &mut request.server_certificate
        else {
            panic!("{request:?}")
        };
        known.public_key.modulus = vec![0xff; 520];
        assert!(ask(&request, "eng", "PC-7").is_ok());
        let Some(ServerCertificate { certificate: CertificateType::Proprietary(known), .. }) =
            &mut request.server_certificate
        else {
            panic!()
        };
        known.public_key.modulus = vec![0xff; 1024];
        assert!(ask(&request, "eng", "PC-7").is_err());
    }

    #[test]
    fn a_machine_is_always_the_same_one() {
        assert_eq!(hardware("PC-7"), hardware("PC-7"));
        assert_ne!(hardware("PC-7"), hardware("PC-8"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_target_says_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            drop(Licensing::of("PC-7").hears(&bytes, "eng"));
            let named = [&[0x80, 0, 0, 0, 1, 3][..], &bytes].concat();
            drop(Licensing::of("PC-7").hears(&named, "eng"));
            drop(asked().hears(&named, "eng"));
            for kind in [2, 3, 4, 0xff] {
                let named = [&[0x80, 0, 0, 0, kind, 3][..], &bytes].concat();
                drop(asked().hears(&named, "eng"));
            }
        }

        #[test]
        fn nor_does_a_request_of_which_something_is_another(at in 0_usize..320, to in proptest::num::u8::ANY) {
            let mut changed = request();
            changed[at] = to;
            drop(Licensing::of("PC-7").hears(&changed, "eng"));
        }
    }
}
