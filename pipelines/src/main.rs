//! `propflow`, the program.

fn main() {}
