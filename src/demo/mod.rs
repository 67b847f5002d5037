//! The built-in targets behind `cofferdam demo`.

pub(crate) mod pump_hmi;
