//! RDP between a person and a target.
