//! RDCleanPath: how a browser, which cannot make a TLS connection of its own, brings RDP through a WebSocket.
//!
//! The browser's first message is its connection request in DER, ours the connection confirm and the certificate that
//! CredSSP is bound to. What follows is RDP without TLS, inside the WebSocket's. What the message says about a destination
//! or an authorisation decides nothing: who asks is known from the web's log-in, and the token says for what.

use ironrdp_rdcleanpath::{RDCleanPathPdu, VERSION_1};

/// The longest first message.
pub(crate) const LIMIT: usize = 4096;

/// The X.224 connection request in a browser's first message.
pub(crate) fn request(message: &[u8]) -> Option<Vec<u8>> {
    let message = RDCleanPathPdu::from_der(message).ok()?;
    let request = message.x224_connection_pdu.filter(|_| message.version == VERSION_1)?;
    Some(request.as_bytes().to_vec())
}

/// The answer: the connection confirm, and the certificate whose key the browser binds CredSSP to.
pub(crate) fn response(confirm: Vec<u8>, certificate: &[u8]) -> Option<Vec<u8>> {
    // The address is shown to nobody; ours is no business of a browser.
    let response =
        RDCleanPathPdu::new_response("0.0.0.0:0".to_owned(), confirm, [certificate.to_vec()]).ok()?;
    response.to_der().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_browsers_request_is_read_and_an_answer_is_no_request() {
        let cr = vec![3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 0, 0];
        let asked =
            RDCleanPathPdu::new_request(cr.clone(), "eng-ws".to_owned(), "nothing".to_owned(), None).unwrap();
        assert_eq!(request(&asked.to_der().unwrap()), Some(cr));
        let other = RDCleanPathPdu { version: 7, ..asked };
        assert_eq!(request(&other.to_der().unwrap()), None);
        assert_eq!(request(&RDCleanPathPdu::new_general_error().to_der().unwrap()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            drop(request(&bytes));
        }
    }
}
