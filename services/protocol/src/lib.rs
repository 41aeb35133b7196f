//! Set up below.
