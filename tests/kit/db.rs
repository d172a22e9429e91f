//! A database for one test.
