//! Bytes that decide what is done.

pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    /// The next byte; 0 once there is none.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }
}
