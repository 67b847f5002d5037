//! Disks that are full, broken or away.
