//! Checks a hub that is not open.
