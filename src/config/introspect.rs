//! The keys that the sections' types have, asked from the types themselves, so that no list can grow stale.

use serde::{
    Deserialize,
    de::{Deserializer, Error as _, Visitor, value::Error},
    forward_to_deserialize_any,
};

use super::settings::{
    Audit, Dangerous, Limits, Mail, Ocr, Rdp, Recordings, Run, S3, Site, Ssh, Store, Vault, Web, Webhook,
};

/// Every section with its keys, in the order of the types.
pub(super) fn sections() -> [(&'static str, &'static [&'static str]); 15] {
    [
        ("site", fields_of::<Site>()),
        ("ssh", fields_of::<Ssh>()),
        ("web", fields_of::<Web>()),
        ("rdp", fields_of::<Rdp>()),
        ("mail", fields_of::<Mail>()),
        ("webhook", fields_of::<Webhook>()),
        ("store", fields_of::<Store>()),
        ("audit", fields_of::<Audit>()),
        ("recordings", fields_of::<Recordings>()),
        ("s3", fields_of::<S3>()),
        ("ocr", fields_of::<Ocr>()),
        ("vault", fields_of::<Vault>()),
        ("limits", fields_of::<Limits>()),
        ("run", fields_of::<Run>()),
        ("dangerous", fields_of::<Dangerous>()),
    ]
}

/// The names that `T`'s derived `Deserialize` asks for.
pub(super) fn fields_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // The probe answers with an error once it has heard the names; there is nothing else to learn from it.
    drop(T::deserialize(Probe { fields: &mut fields }));
    fields
}

struct Probe<'a> {
    fields: &'a mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.fields = fields;
        Err(Error::custom("only the names were asked for"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("not a section"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
