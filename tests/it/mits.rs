//! Tests of this area follow.
