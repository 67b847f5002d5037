//! The KDC's answer about the account (AS-REP, RFC 4120 5.4.2), written anew for the library.
//!
//! MIT's and Samba's KDCs give its encrypted part the tag that belongs to a TGS-REP, which clients may take, and which the library
//! does not. The library also looks for the salt here alone, where a KDC that has said it before need not say it again, and
//! compares no nonce. So the answer is opened here with the account's key, and closed again.

use cofferdam_vault::SecretString;
use picky_asn1::wrapper::{
    Asn1SequenceOf, ExplicitContextTag0, ExplicitContextTag1, ExplicitContextTag2, GeneralStringAsn1,
    OctetStringAsn1, Optional,
};
use picky_krb::{
    constants::{key_usages::AS_REP_ENC, types::PA_ETYPE_INFO2_TYPE},
    crypto::CipherSuite,
    data_types::{EncryptedData, EtypeInfo2, EtypeInfo2Entry, PaData},
    messages::{AsRep, AsReq, EncAsRepPart, KrbError},
};
use zeroize::{Zeroize as _, Zeroizing};

/// The tags of the encrypted part: as the library takes it, and as it may be.
const OF_AS_REP: u8 = 0x79;
const OF_TGS_REP: u8 = 0x7a;

/// Iterations of AES' string-to-key (RFC 3962 4), which the library knows no others of.
const ITERATIONS: [u8; 4] = 4096_u32.to_be_bytes();

/// Whose answer it is.
pub(super) struct Account<'a> {
    pub(super) realm: &'a str,
    pub(super) user: &'a str,
    pub(super) password: &'a SecretString,
}

/// What a KDC that wants a proof says about keys; nothing where it says nothing.
pub(super) fn keys_of(refusal: &[u8]) -> EtypeInfo2 {
    let data = picky_asn1_der::from_bytes::<KrbError>(refusal).ok().and_then(|error| error.0.e_data.0);
    let methods = data.and_then(|data| picky_asn1_der::from_bytes::<Asn1SequenceOf<PaData>>(&data.0.0).ok());
    keys_in(methods.as_ref())
}

fn keys_in(methods: Option<&Asn1SequenceOf<PaData>>) -> EtypeInfo2 {
    methods
        .and_then(|methods| methods.0.iter().find(|data| data.padata_type.0.0 == PA_ETYPE_INFO2_TYPE))
        .and_then(|keys| picky_asn1_der::from_bytes(&keys.padata_data.0.0).ok())
        .unwrap_or_else(|| Vec::new().into())
}

/// The answer as the library takes it, without its length; `None` where it is not one to this question and for this account.
pub(super) fn rewritten(
    question: &[u8],
    answer: &[u8],
    said: &EtypeInfo2,
    account: &Account<'_>,
) -> Option<Vec<u8>> {
    let question: AsReq = picky_asn1_der::from_bytes(question).ok()?;
    let mut answer: AsRep = picky_asn1_der::from_bytes(answer).ok()?;
    let sealed = &mut answer.0.enc_part.0;
    let suite = CipherSuite::try_from(sealed.etype.0.0.as_slice()).ok()?;
    if suite == CipherSuite::Des3CbcSha1Kd {
        return None;
    }
    let padata = answer.0.padata.0.as_ref().map(|padata| &padata.0);
    let own = keys_in(padata);
    let salt = salt(sealed, [&own, said], account)?;
    let cipher = suite.cipher();
    let password = account.password.expose().as_bytes();
    let key = Zeroizing::new(cipher.generate_key_from_password(password, salt.0.as_bytes()).ok()?);
    let mut plain = Zeroizing::new(cipher.decrypt(&key, AS_REP_ENC, &sealed.cipher.0.0).ok()?);
    let tag = plain.first_mut().filter(|tag| [OF_AS_REP, OF_TGS_REP].contains(tag))?;
    *tag = OF_AS_REP;
    if low_bits(&nonce(&plain)?)? != low_bits(&question.0.req_body.0.nonce.0.0)? {
        return None;
    }
    sealed.cipher = OctetStringAsn1(cipher.encrypt(&key, AS_REP_ENC, &plain).ok()?).into();
    let keys = EtypeInfo2::from(vec![EtypeInfo2Entry {
        etype: sealed.etype.clone(),
        salt: Optional(Some(ExplicitContextTag1(salt))),
        s2kparams: Optional(None),
    }]);
    let keys = PaData {
        padata_type: ExplicitContextTag1(PA_ETYPE_INFO2_TYPE.to_vec().into()),
        padata_data: ExplicitContextTag2(OctetStringAsn1(picky_asn1_der::to_vec(&keys).ok()?)),
    };
    answer.0.padata = Optional(Some(ExplicitContextTag2(vec![keys].into())));
    picky_asn1_der::to_vec(&answer).ok()
}

/// What the account's key is made with: as one of these says for its kind, or else as RFC 4120 4 has it.
fn salt(sealed: &EncryptedData, said: [&EtypeInfo2; 2], account: &Account<'_>) -> Option<GeneralStringAsn1> {
    let ExplicitContextTag0(kind) = &sealed.etype;
    let key = said.into_iter().flat_map(|keys| &keys.0).find(|key| key.etype.0 == *kind);
    if key.and_then(|key| key.s2kparams.0.as_ref()).is_some_and(|iterations| iterations.0.0 != ITERATIONS) {
        return None;
    }
    match key.and_then(|key| key.salt.0.clone()) {
        Some(salt) => Some(salt.0),
        None => {
            let salt = format!("{}{}", account.realm, account.user);
            Some(picky_asn1::restricted_string::Ia5String::from_string(salt).ok()?.into())
        }
    }
}

fn nonce(plain: &[u8]) -> Option<Vec<u8>> {
    let EncAsRepPart { 0: mut part } = picky_asn1_der::from_bytes(plain).ok()?;
    part.key.0.key_value.0.0.zeroize();
    Some(part.nonce.0.0)
}

/// A number of 32 bits, which some write with a sign and others without.
fn low_bits(number: &[u8]) -> Option<u32> {
    let sign = if number.first()? & 0x80 == 0 { 0 } else { u32::MAX };
    (number.len() <= 5).then(|| number.iter().fold(sign, |sum, byte| (sum << 8) | u32::from(*byte)))
}
